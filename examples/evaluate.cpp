// Judges what train_image_classifier trained: accuracy, and each class by precision, recall and F1. Nothing is learned.
#include "image_classifier.hpp"

#include <residua/io/checkpoints.hpp>

using namespace residua;

namespace {

struct Settings {
  examples::ImageSource source;
  std::string checkpoint, part;
  Index batch = 100, workers = 0;
  int threads = 0;
};

/// The file itself, or the newest one of a folder.
examples::fs::path find_checkpoint(const std::string& given) {
  if (!examples::fs::is_directory(given)) return given;
  const auto found = Checkpoints::in(given);
  if (found.empty()) fail(given, "expected a folder with checkpoints, found none");
  return found.front();
}

void judge(const Settings& settings) {
  if (settings.threads != 0) set_num_threads(settings.threads);
  const examples::Images images = settings.source.read();
  const auto file = find_checkpoint(settings.checkpoint);
  const auto architecture = examples::Architecture::from(SafetensorsFile(file).metadata(), file.string());

  Random none = Random::none();
  auto net = architecture.build(images.channels(), images.classes(), none);
  State weights;
  weights.add("", net);
  resume(weights, file, {.ignore_other_parts = true});

  const DataLoader<float> loader(images.test, {.batch_size = settings.batch, .num_workers = settings.workers}, none,
                                 {images.normalize});
  std::printf("%s: ResNet-%ld, %ld images of %s\n", file.filename().c_str(), static_cast<long>(architecture.depth),
              static_cast<long>(images.test.size()), images.name.c_str());
  examples::print_evaluation(evaluate(net, loader, examples::classifier_loss), images.test.classes);
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  CLI::App app("Judges a network of train_image_classifier by test images, without training it.");
  app.add_option("--checkpoint", settings.checkpoint, "a checkpoint, or a folder whose newest one is taken")
      ->required()
      ->check(CLI::ExistingPath);
  settings.source.add_options(app);
  app.add_option("--batch", settings.batch, "images in a batch")->check(CLI::Range(1, 60'000))->capture_default_str();
  app.add_option("--workers", settings.workers, "threads that prepare batches ahead")->check(CLI::Range(0, 64));
  app.add_option("--threads", settings.threads, "default: OMP_NUM_THREADS, else the number of cores")
      ->check(CLI::Range(1, 1024));
  return examples::run(app, argc, argv, [&] { judge(settings); });
}
