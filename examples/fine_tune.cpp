// Teaches a pretrained network new classes from a folder of images: its head is drawn anew, all else starts as it was.
#include "pretrained.hpp"

#include <residua/io/images.hpp>

using namespace residua;

namespace {

struct Settings {
  examples::Pretrained network;
  std::string images, output;
  Index epochs = 5, batch = 16, workers = 1, size = 0;
  double lr = 1e-3, held_out = 0.2;
  bool freeze = true;
  std::uint64_t seed = 1;
  int threads = 0;
};

constexpr auto loss = [](const auto& logits, const auto& labels) { return cross_entropy(logits, labels); };

void fine_tune(const Settings& settings) {
  if (settings.threads != 0) set_num_threads(settings.threads);
  Random rng(settings.seed);
  ImageClassification preset = examples::preset_of(settings.network.model);
  if (settings.size != 0) {
    preset.resize_size = preset.resize_size * settings.size / preset.crop_size;
    preset.crop_size = settings.size;
  }
  const ImageFolder folder(settings.images,
                           {.transform = [preset](Tensor<std::uint8_t> image) { return preset.crop(std::move(image)); }});
  const auto parts = random_split(folder, {1 - settings.held_out, settings.held_out}, rng);
  using Part = Subset<ImageFolder>;
  const Normalize normalize{preset.mean, preset.std};
  const DataLoader<float, Part> loader(
      parts[0], {.batch_size = settings.batch, .shuffle = true, .num_workers = settings.workers}, rng,
      {RandomHorizontalFlip{}, normalize});
  const DataLoader<float, Part> validation(parts[1], {.batch_size = settings.batch, .num_workers = settings.workers}, rng,
                                           {normalize});

  const std::string head = settings.network.head();
  const auto classes = static_cast<Index>(folder.classes().size());
  Layer<float> net = model_named<float>(settings.network.model, classes, rng);
  const auto is_head = [&](const std::string& name) { return name.starts_with(head + "."); };
  const LoadReport report = load_weights(
      net, settings.network.weights,
      {.strict = false, .rename = [&](const std::string& name) { return is_head(name) ? std::string() : name; }});
  for (const std::string& name : report.missing) {
    if (!is_head(name)) fail(settings.network.weights, "expected all tensors but the head's, found no ", name);
  }
  Index trainable = 0;
  for (auto& [name, p] : net.named_parameters()) {
    p->requires_grad = !settings.freeze || is_head(name);
    if (p->requires_grad) trainable += p->value.size();
  }
  if (settings.freeze) for_each_layer<BatchNorm<float>>(net, [](BatchNorm<float>& norm) { norm.options.frozen = true; });
  std::printf("%s: %ld classes, %ld images to learn from, %ld to be judged by; %ld numbers are learned\n",
              settings.network.model.c_str(), static_cast<long>(classes), static_cast<long>(loader.samples()),
              static_cast<long>(validation.samples()), static_cast<long>(trainable));

  AdamW<float> optimizer(net.parameters(), {.lr = settings.lr});
  const auto validate = [&](const Layer<float>& now) { return evaluate(now, validation, loss).measures(); };
  const auto report_epoch = [](FitEvent& event) {
    if (event.at != FitEvent::At::epoch) return;
    std::printf("epoch %ld: loss %.4f, %.2f%% of the held-out images right\n", static_cast<long>(event.epoch),
                event.history.column("loss").back(), 100 * event.history.column("val_accuracy").back());
  };
  fit(net, optimizer, loader, loss, rng,
      {.epochs = settings.epochs, .validate = validate, .callbacks = {report_epoch}, .progress = stderr, .unit = "images"});
  std::printf("%s", evaluate(net, validation, loss).metrics->table(folder.classes()).c_str());
  if (!settings.output.empty()) save_weights(net, settings.output);
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  CLI::App app("Teaches a pretrained network the classes of a folder of images, one sub-folder a class.");
  settings.network.add_options(app);
  app.add_option("--images", settings.images, "folder with a sub-folder of PNG or JPEG files for each class")
      ->required()
      ->check(CLI::ExistingDirectory);
  app.add_option("--output", settings.output, "safetensors file to write the network to");
  app.add_option("--epochs", settings.epochs, "times through the images")->check(CLI::Range(1, 100'000))->capture_default_str();
  app.add_option("--batch", settings.batch, "images in a batch")->check(CLI::Range(1, 10'000))->capture_default_str();
  app.add_option("--lr", settings.lr, "learning rate")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_flag("!--train-all", settings.freeze, "train the whole network, not its head alone");
  app.add_option("--held-out", settings.held_out, "share of the images to judge by")
      ->check(CLI::Range(0.01, 0.9))
      ->capture_default_str();
  app.add_option("--size", settings.size, "side of the images that the network sees (default: the model's)")
      ->check(CLI::Range(16, 4096));
  app.add_option("--workers", settings.workers, "threads that prepare batches ahead")
      ->check(CLI::Range(0, 64))
      ->capture_default_str();
  app.add_option("--threads", settings.threads, "default: OMP_NUM_THREADS, else the number of cores")
      ->check(CLI::Range(1, 1024));
  app.add_option("--seed", settings.seed, "decides everything random")->capture_default_str();
  return examples::run(app, argc, argv, [&] { fine_tune(settings); });
}
