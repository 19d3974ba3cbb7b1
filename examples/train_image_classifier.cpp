// Trains a residual network (He et al. 2015, section 4.2) on CIFAR-10, CIFAR-100, or on images it draws itself.
#include "common.hpp"

#include <cmath>
#include <filesystem>

using namespace residua;

namespace {

struct Settings {
  std::string data;
  Index depth = 0, width = 16, epochs = 8, batch = 0, train_images = 0;
  double lr = 0.2;
  std::uint64_t seed = 1;
  int threads = 0;
};

/// Three stages of depth = 6n + 2 layers: n residual blocks each, every stage half as large with twice the channels.
Sequential<float> resnet(Index depth, Index width, Index classes, Random& rng) {
  Sequential<float> net;
  net.add("conv1",
          Conv2d<float>({.in_channels = 3, .out_channels = width, .kernel_size = 3, .padding = 1, .bias = false}, rng));
  net.add("bn1", BatchNorm<float>({.num_features = width}));
  net.add("relu", ReLU<float>());
  Index channels = width;
  for (Index stage = 0; stage < 3; ++stage) {
    const Index out_channels = width << stage;
    Sequential<float> blocks;
    for (Index block = 0; block < (depth - 2) / 6; ++block) {
      blocks.add(ResidualBlock<float>({.in_channels = channels,
                                       .out_channels = out_channels,
                                       .stride = channels == out_channels ? 1 : 2,
                                       .shortcut = Shortcut::subsample},
                                      rng));
      channels = out_channels;
    }
    net.add("layer" + std::to_string(stage + 1), blocks);
  }
  net.add("pool", GlobalAvgPool2d<float>());
  net.add("linear", Linear<float>({.in_features = channels, .out_features = classes}, rng));

  for (auto& [name, p] : net.named_parameters()) {  // convolutions and the linear map start Kaiming-normal
    const Shape shape = p->value.shape();
    if (shape.rank() > 1) p->value = init::kaiming_normal<float>(shape, shape.size() / shape[0], rng);
  }
  return net;
}

ImageDataset read(const Settings& settings, Split split) {
  const Index count = split == Split::train ? settings.train_images : 0;  // 0: all there are
  if (settings.data.empty()) {
    if (split == Split::train) return textured_shapes(count != 0 ? count : 5000, Random(1));
    return textured_shapes(2000, Random(2));
  }
  const bool hundred = std::filesystem::exists(std::filesystem::path(settings.data) / "train.bin");
  ImageDataset data = hundred ? read_cifar100(settings.data, split) : read_cifar10(settings.data, split);
  return count != 0 ? data.first(count) : data;
}

/// How many of the images `net` names right.
Index evaluate(const Sequential<float>& net, const DataLoader<float>& batches) {
  Index right = 0;
  for (auto [images, labels] : batches) right += examples::count_right(net(std::move(images)), labels);
  return right;
}

void train(const Settings& settings) {
  if (settings.threads != 0) set_num_threads(settings.threads);
  const ImageDataset train_data = read(settings, Split::train), test_data = read(settings, Split::test);

  Random rng(settings.seed);
  const Normalize normalize{.mean = {0.4914, 0.4822, 0.4465}, .std = {0.2470, 0.2435, 0.2616}};
  const RandomCrop crop{.size = 32, .padding = 4, .padding_mode = PaddingMode::reflect};
  const DataLoader<float> batches(train_data, {.batch_size = settings.batch, .shuffle = true, .drop_last = true}, rng,
                                  {crop, RandomHorizontalFlip{}, normalize});
  const DataLoader<float> test_batches(test_data, {.batch_size = 100}, rng, {normalize});
  if (batches.size() == 0) {
    fail("train_image_classifier", "expected at least one batch of ", settings.batch, " images, got ",
         train_data.size());
  }

  auto net = resnet(settings.depth, settings.width, static_cast<Index>(train_data.classes.size()), rng);
  SGD<float> optimizer(net.parameters(), {.momentum = 0.9, .weight_decay = 5e-4, .nesterov = true});
  const Index steps = settings.epochs * batches.size();
  OneCycleLR schedule(optimizer, {.max_lr = settings.lr, .total_steps = steps});
  std::printf("ResNet-%ld of width %ld, %ld training images, %ld test images, %zu classes\n", settings.depth,
              settings.width, train_data.size(), test_data.size(), train_data.classes.size());

  examples::Progress progress(steps * settings.batch, "images");
  Index done = 0, right = 0;
  for (Index epoch = 0; epoch < settings.epochs; ++epoch) {
    double loss_sum = 0;
    for (auto [images, labels] : batches.epoch(epoch)) {
      optimizer.zero_grad();
      Tape<float> tape(rng, {.input_gradient = false});
      const Tensor<float> logits = net.forward(std::move(images), tape);
      const auto loss = cross_entropy(logits, labels);
      net.backward(loss.gradient, tape);
      optimizer.step();

      schedule.step();
      loss_sum += loss.value;
      done += settings.batch;
      progress.update(done, "epoch " + std::to_string(epoch + 1) + "  loss " + std::to_string(loss.value));
    }
    right = evaluate(net, test_batches);
    progress.clear();
    std::printf("epoch %ld of %ld: loss %.12g, %.2f%% of the test images right\n", epoch + 1, settings.epochs,
                loss_sum / static_cast<double>(batches.size()),
                100 * static_cast<double>(right) / static_cast<double>(test_data.size()));
    std::fflush(stdout);
  }
  std::printf("test accuracy: %ld of %ld right (%.2f%%)\n", right, test_data.size(),
              100 * static_cast<double>(right) / static_cast<double>(test_data.size()));
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  CLI::App app(
      "Trains a residual network to name images: those of CIFAR, or textured shapes that it draws itself.\n"
      "Results go to stdout and are the same for any number of threads; progress goes to stderr.");
  const auto six_n_plus_two = [](const std::string& text) {
    const bool good = std::atol(text.c_str()) >= 8 && std::atol(text.c_str()) % 6 == 2;
    return good ? std::string() : "expected 8, 14, 20, ... (6n + 2), got " + text;
  };
  app.add_option("--data", settings.data,
                 "folder with CIFAR-10's data_batch_1.bin ... test_batch.bin, or CIFAR-100's train.bin and test.bin;\n"
                 "without it: 5,000 images of ten classes of textured shapes")
      ->check(CLI::ExistingDirectory);
  app.add_option("--depth", settings.depth, "layers: 8, 14, 20, 32, 44, 56, 110, 1202 ... (default: 20; for shapes 8)")
      ->check(six_n_plus_two);
  app.add_option("--width", settings.width, "channels of the first stage")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app.add_option("--epochs", settings.epochs, "times through the images")
      ->check(CLI::Range(1, 100'000))
      ->capture_default_str();
  app.add_option("--batch", settings.batch, "images in a batch (default: 128; for shapes 64)")
      ->check(CLI::Range(2, 60'000));
  app.add_option("--lr", settings.lr, "highest learning rate of the cycle")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--seed", settings.seed, "decides everything random")->capture_default_str();
  app.add_option("--threads", settings.threads, "default: OMP_NUM_THREADS, else the number of cores")
      ->check(CLI::Range(1, 1024));
  app.add_option("--train-images", settings.train_images, "train on the first so many images only")
      ->check(CLI::Range(2, 1'000'000));

  return examples::run(app, argc, argv, [&] {
    const bool shapes = settings.data.empty();
    if (settings.depth == 0) settings.depth = shapes ? 8 : 20;
    if (settings.batch == 0) settings.batch = shapes ? 64 : 128;
    train(settings);
  });
}
