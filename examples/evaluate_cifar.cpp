// How many CIFAR-10 test images a residual network trained elsewhere names right: weights as PyTorch has them.
#include "common.hpp"

#include <array>
#include <string>

#include <residua/io/weights.hpp>
#include <residua/models/cifar_resnet.hpp>

using namespace residua;

namespace {

struct Settings {
  std::string weights, data;
  std::vector<double> mean{0.485, 0.456, 0.406}, std{0.229, 0.224, 0.225};
  Index batch = 100;
  int threads = 0;
};

/// The network that a file's tensors belong to: its depth, width and shortcuts told by their names and shapes.
Sequential<float> network_of(const SafetensorsFile& file, const std::string& prefix, const std::string& place) {
  std::array<Index, 3> blocks{};
  for (const TensorInfo& info : file.tensors()) {
    for (std::size_t stage = 0; stage < 3; ++stage) {
      const std::string start = prefix + "layer" + std::to_string(stage + 1) + ".";
      if (!info.name.starts_with(start)) continue;
      const Index number = std::atol(info.name.c_str() + start.size());
      if (number < 0 || number > 100'000) fail(place, "expected blocks from 0 on, got ", info.name);
      blocks[stage] = std::max(blocks[stage], number + 1);
    }
  }
  const TensorInfo* const first = file.find(prefix + "conv1.weight");
  const TensorInfo* const last = file.find(prefix + "linear.weight");
  if (first == nullptr || first->shape.rank() != 4 || last == nullptr || last->shape.rank() != 2 || blocks[0] == 0 ||
      blocks[1] != blocks[0] || blocks[2] != blocks[0]) {
    fail(place, "expected the tensors of a CIFAR ResNet: conv1.weight, linear.weight and three stages layer1.0 … of as "
                "many blocks each");
  }
  Random none = Random::none();
  return cifar_resnet<float>(
      6 * blocks[0] + 2,
      {.num_classes = last->shape[0],
       .shortcut = file.find(prefix + "layer2.0.shortcut.0.weight") ? Shortcut::projection : Shortcut::subsample,
       .in_channels = first->shape[1],
       .channels = first->shape[0]},
      none);
}

void judge(const Settings& settings) {
  if (settings.threads != 0) set_num_threads(settings.threads);
  const ImageDataset test = read_cifar10(settings.data, Split::test);
  const SafetensorsFile file(settings.weights);
  const std::string prefix = file.find("module.conv1.weight") ? "module." : "";
  auto net = network_of(file, prefix, settings.weights);
  load_weights(net, settings.weights, {.prefix = prefix});

  const auto fast = inference(net);
  const DataLoader<float> loader(test, {.batch_size = settings.batch}, Random::none(),
                                 {Normalize{settings.mean, settings.std}});
  ClassificationMetrics metrics(10);
  Progress progress(stderr, test.size(), "images");
  for (auto [images, labels] : loader) {
    metrics.add(fast(std::move(images)), labels);
    progress.update(metrics.rows(), "predicting");
  }
  progress.clear();
  std::printf("%s\n%ld of %ld right (%.2f%%)\n", metrics.table(test.classes).c_str(),
              static_cast<long>(metrics.right()), static_cast<long>(metrics.rows()),
              100 * metrics.accuracy());
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  CLI::App app("Names CIFAR-10's test images with a residual network whose weights PyTorch wrote, and counts how many are right.");
  app.add_option("--weights", settings.weights, "safetensors file with the names of akamaster's pytorch_resnet_cifar10")
      ->required()
      ->check(CLI::ExistingFile);
  app.add_option("--data", settings.data, "folder with test_batch.bin")->required()->check(CLI::ExistingDirectory);
  app.add_option("--mean", settings.mean, "of the channels, as the network was trained")
      ->expected(3)
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--std", settings.std, "deviation of the channels")->expected(3)->delimiter(',')->capture_default_str();
  app.add_option("--batch", settings.batch, "images at once")->check(CLI::Range(1, 10'000))->capture_default_str();
  app.add_option("--threads", settings.threads, "default: OMP_NUM_THREADS, else the number of cores")
      ->check(CLI::Range(1, 1024));
  return examples::run(app, argc, argv, [&] { judge(settings); });
}
