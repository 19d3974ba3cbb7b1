// Trains a residual network (He et al. 2015, section 4.2) on CIFAR, on digits, or on images it draws itself.
#include "image_classifier.hpp"
#include "plot.hpp"

#include <functional>
#include <memory>

#include <residua/io/checkpoints.hpp>
#include <residua/io/history_file.hpp>

using namespace residua;

namespace {

struct Settings {
  examples::ImageSource source;
  examples::Architecture architecture;
  std::string optimizer = "sgd", schedule = "one_cycle";
  Index epochs = 8, batch = 0, workers = 1, accumulate = 1, patience = 0;
  double lr = 0, weight_decay = 5e-4, clip = 0, average = 0, warmup = 0;
  bool decay_all = true;
  std::string checkpoint, history, on_save_error = "stop";
  Index checkpoint_every = 0, keep = 3;
  bool resume = false;
  std::uint64_t seed = 1;
  int threads = 0;
};

// --- what the flags name ---------------------------------------------------------------------------------------------

double default_lr(const std::string& optimizer) { return optimizer == "sgd" ? 0.2 : optimizer == "rmsprop" ? 1e-3 : 5e-3; }

/// The parameters in one group, or norms and biases in a second one without weight decay.
template <typename Kind, typename Options>
std::unique_ptr<Optimizer<float>> make_optimizer(Sequential<float>& net, const Settings& settings, Options options) {
  options.lr = settings.lr;
  options.weight_decay = settings.weight_decay;
  if (settings.decay_all) return std::make_unique<Kind>(net.parameters(), options);
  Options without = options;
  without.weight_decay = 0;
  const auto decays = [](const std::string&, const ParameterData<float>& p) { return p.value.rank() > 1; };
  return std::make_unique<Kind>(std::vector<ParameterGroup<float, Options>>{
      {net.parameters_if(decays), options}, {net.parameters_if(std::not_fn(decays)), without}});
}

std::unique_ptr<Optimizer<float>> make_optimizer(Sequential<float>& net, const Settings& settings) {
  if (settings.optimizer == "adam") return make_optimizer<Adam<float>>(net, settings, AdamOptions{});
  if (settings.optimizer == "adamw") return make_optimizer<AdamW<float>>(net, settings, AdamWOptions{});
  if (settings.optimizer == "rmsprop") return make_optimizer<RMSprop<float>>(net, settings, RMSpropOptions{.momentum = 0.9});
  return make_optimizer<SGD<float>>(net, settings, SGDOptions{.momentum = 0.9, .nesterov = true});
}

/// All but plateau move with each of `steps` steps.
std::unique_ptr<Schedule> make_schedule(Optimizer<float>& optimizer, const Settings& settings, Index steps) {
  const Index warmup = static_cast<Index>(settings.warmup * static_cast<double>(steps / settings.epochs));
  const Index rest = std::max<Index>(1, steps - warmup);
  std::unique_ptr<Schedule> schedule;
  if (settings.schedule == "one_cycle") {
    schedule = std::make_unique<OneCycleLR>(optimizer, OneCycleLROptions{.max_lr = settings.lr, .total_steps = rest});
  } else if (settings.schedule == "cosine") {
    schedule = std::make_unique<CosineAnnealingLR>(optimizer, CosineAnnealingLROptions{.T_max = rest});
  } else if (settings.schedule == "step") {
    schedule = std::make_unique<StepLR>(optimizer, StepLROptions{.step_size = std::max<Index>(1, rest / 3)});
  } else if (settings.schedule == "multi_step") {
    schedule = std::make_unique<MultiStepLR>(optimizer, MultiStepLROptions{.milestones = {rest / 2, rest * 3 / 4}});
  } else if (settings.schedule == "plateau") {
    return std::make_unique<ReduceLROnPlateau>(optimizer, ReduceLROnPlateauOptions{.patience = 2});
  } else {
    schedule = std::make_unique<StepLR>(optimizer, StepLROptions{.step_size = 1, .gamma = 1});
  }
  if (warmup == 0) return schedule;
  return std::make_unique<LinearWarmup>(optimizer, std::move(schedule),
                                        LinearWarmupOptions{.start_factor = 0.01, .total_iters = warmup});
}

// --- training --------------------------------------------------------------------------------------------------------

void print_epoch(const FitEvent& event, Index epochs) {
  if (event.at != FitEvent::At::epoch) return;
  std::printf("epoch %ld of %ld: loss %.12g, %.2f%% of the test images right\n", static_cast<long>(event.epoch),
              static_cast<long>(epochs), event.history.column("loss").back(),
              100 * event.history.column("val_accuracy").back());
  std::fflush(stdout);
}

void train(const Settings& settings) {
  if (settings.threads != 0) set_num_threads(settings.threads);
  const examples::Images images = settings.source.read();

  Random rng(settings.seed);
  std::vector<Transform<float>> augmentations{
      RandomCrop{.size = images.size(), .padding = 4,
                 .padding_mode = images.mirrored ? PaddingMode::reflect : PaddingMode::zeros}};
  if (images.mirrored) augmentations.push_back(RandomHorizontalFlip{});
  augmentations.push_back(images.normalize);
  const DataLoader<float> loader(
      images.train, {.batch_size = settings.batch, .shuffle = true, .num_workers = settings.workers, .drop_last = true},
      rng, augmentations);
  const DataLoader<float> test_loader(images.test, {.batch_size = 100, .num_workers = settings.workers}, rng,
                                      {images.normalize});
  if (loader.size() == 0) {
    fail("train_image_classifier", "expected at least one batch of ", settings.batch, " images, got ",
         images.train.size());
  }

  auto net = settings.architecture.build(images.channels(), images.classes(), rng);
  const auto optimizer = make_optimizer(net, settings);
  const Index steps_per_epoch = (loader.size() + settings.accumulate - 1) / settings.accumulate;
  const auto schedule = make_schedule(*optimizer, settings, settings.epochs * steps_per_epoch);
  std::optional<AveragedModel<Sequential<float>>> average;
  if (settings.average > 0) average.emplace(net, AveragedModelOptions{.decay = settings.average});
  std::printf("ResNet-%ld of width %ld on %s, %ld training images, %ld test images, %ld classes\n",
              static_cast<long>(settings.architecture.depth), static_cast<long>(settings.architecture.width),
              images.name.c_str(), static_cast<long>(images.train.size()), static_cast<long>(images.test.size()),
              static_cast<long>(images.classes()));

  const OnSaveError on_save_error = settings.on_save_error == "go_on" ? OnSaveError::go_on : OnSaveError::stop;
  Interrupt interrupt;
  FitOptions<Sequential<float>> options{
      .epochs = settings.epochs,
      .schedule = schedule.get(),
      .schedule_every = settings.schedule == "plateau" ? Every::epoch : Every::step,
      .accumulate = settings.accumulate,
      .max_norm = settings.clip,
      .average = average ? &*average : nullptr,
      .validate = [&](const auto& now) { return evaluate(now, test_loader, examples::classifier_loss).measures(); },
      .patience = settings.patience,
      .keep_best = settings.patience > 0,
      .progress = stderr,
      .unit = "images"};
  if (!settings.checkpoint.empty()) {
    options.callbacks.push_back(Checkpoints(settings.checkpoint, {.resume = settings.resume,
                                                                  .keep = settings.keep,
                                                                  .every_steps = settings.checkpoint_every,
                                                                  .on_error = on_save_error,
                                                                  .metadata = settings.architecture.described()}));
  }
  if (!settings.history.empty()) options.callbacks.push_back(HistoryFile(settings.history, on_save_error));
  options.callbacks.push_back([&](FitEvent& event) {
    print_epoch(event, settings.epochs);
    event.stop = event.stop || interrupt.requested();
  });
  const auto result = fit(net, *optimizer, loader, examples::classifier_loss, rng, options);

  if (result.seconds > 0) {
    std::fprintf(stderr, "%.1f s, of which %.2f%% waiting for images\n", result.seconds,
                 100 * result.data_seconds / result.seconds);
  }
  if (result.stopped) {
    std::fprintf(stderr, "stopped after %ld steps%s\n", static_cast<long>(result.steps),
                 settings.checkpoint.empty() ? "; without --checkpoint nothing was saved"
                                             : "; the same command with --resume goes on from here");
    return;
  }
  const auto& judged = result.best ? *result.best : average ? average->module : net;
  examples::print_evaluation(evaluate(judged, test_loader, examples::classifier_loss), images.test.classes);
  if (!settings.history.empty()) {
    const auto picture = examples::plot_history(settings.history, result.history);
    if (!picture.empty()) std::fprintf(stderr, "curves: %s\n", picture.c_str());
  }
}

void add_options(CLI::App& app, Settings& s) {
  s.source.add_options(app);
  s.architecture.add_options(app);
  app.add_option("--optimizer", s.optimizer, "sgd (Nesterov momentum 0.9), adam, adamw or rmsprop")
      ->check(CLI::IsMember({"sgd", "adam", "adamw", "rmsprop"}))
      ->capture_default_str();
  app.add_option("--schedule", s.schedule, "one_cycle, cosine, step, multi_step, plateau or constant")
      ->check(CLI::IsMember({"one_cycle", "cosine", "step", "multi_step", "plateau", "constant"}))
      ->capture_default_str();
  app.add_option("--warmup", s.warmup, "epochs of linear warm-up in front of the schedule")->check(CLI::Range(0.0, 1e5));
  app.add_option("--lr", s.lr, "highest learning rate (default: sgd 0.2, rmsprop 0.001, adam and adamw 0.005)")
      ->check(CLI::PositiveNumber);
  app.add_option("--weight-decay", s.weight_decay, "weight decay")->check(CLI::NonNegativeNumber)->capture_default_str();
  app.add_flag("!--no-decay-on-norms", s.decay_all, "no weight decay on norms and biases");
  app.add_option("--clip", s.clip, "clip gradients to this norm")->check(CLI::NonNegativeNumber);
  app.add_option("--accumulate", s.accumulate, "batches that make one step")->check(CLI::Range(1, 100'000));
  app.add_option("--average", s.average, "judge by an exponential moving average of the weights with this decay")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--epochs", s.epochs, "times through the images")->check(CLI::Range(1, 100'000))->capture_default_str();
  app.add_option("--patience", s.patience, "stop after so many epochs without a lower test loss; the best epoch is judged")
      ->check(CLI::Range(1, 100'000));
  app.add_option("--batch", s.batch, "images in a batch (default: 128; for shapes and digits 64)")
      ->check(CLI::Range(2, 60'000));
  app.add_option("--workers", s.workers, "threads that prepare batches ahead")
      ->check(CLI::Range(0, 64))
      ->capture_default_str();
  app.add_option("--threads", s.threads, "default: OMP_NUM_THREADS, else the number of cores")->check(CLI::Range(1, 1024));
  app.add_option("--seed", s.seed, "decides everything random")->capture_default_str();
  CLI::Option* const checkpoint =
      app.add_option("--checkpoint", s.checkpoint, "folder that the run is saved into, after each epoch and on Ctrl-C");
  app.add_flag("--resume", s.resume, "go on from the newest checkpoint there, if any")->needs(checkpoint);
  app.add_option("--checkpoint-every", s.checkpoint_every, "save after so many steps too")->check(CLI::Range(1, 1'000'000'000));
  app.add_option("--keep", s.keep, "how many checkpoints stay")->check(CLI::Range(1, 1'000'000))->capture_default_str();
  app.add_option("--on-save-error", s.on_save_error, "when a file cannot be saved: stop, or go_on without it")
      ->check(CLI::IsMember({"stop", "go_on"}))
      ->capture_default_str();
  app.add_option("--history", s.history, "CSV file of what was measured each epoch, with its curves as SVG beside it");
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  CLI::App app(
      "Trains a residual network to name images: those of CIFAR, of MNIST's family, or textured shapes that it draws.\n"
      "Results go to stdout and are the same for any number of threads and workers; progress goes to stderr.");
  add_options(app, settings);
  return examples::run(app, argc, argv, [&] {
    const bool small = settings.source.simple();
    if (settings.architecture.depth == 0) settings.architecture.depth = small ? 8 : 20;
    if (settings.batch == 0) settings.batch = small ? 64 : 128;
    if (settings.lr == 0) settings.lr = default_lr(settings.optimizer);
    train(settings);
  });
}
