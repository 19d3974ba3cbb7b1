// Measures what residual connections and normalisation do: a grid of trainings, and a report to look at.
#include "experiment.hpp"
#include "network.hpp"
#include "report.hpp"
#include "runner.hpp"

namespace {

using namespace study;

/// What --only asks for: one run, its progress and its result on standard output.
void do_one(const Settings& s, int threads) {
  set_num_threads(threads);
  for (const Run& run : s.runs()) {
    if (run.key() != s.only) continue;
    Random random(run.seed);
    if (run.step_batch > 0) {
      std::printf("%s\n", memory_of_step(build(run, s.width, 10, random), run.step_batch, 10, random).dump().c_str());
      return;
    }
    const Images images(s);
    auto net = build(run, s.width, static_cast<Index>(images.train.classes.size()), random);
    const Stopwatch watch;
    double next = 0;
    const auto tell = [&](double done) {
      if (watch.seconds() < next) return;
      next = watch.seconds() + 0.2;
      std::printf("%.6f\n", done);
      std::fflush(stdout);
    };
    const json result = experiment(std::move(net), is_traced, images, s, run.lr, random, tell);
    std::printf("%s\n", result.dump().c_str());
    return;
  }
  fail("study", "expected a run of the study, got ", s.only);
}

/// All that is missing, then the report. Returns false where it was stopped.
bool do_all(const Settings& s, int jobs, char** arguments) {
  const std::vector<Run> runs = s.runs();
  if (s.data.size() > 0) Images{s};  // a folder that does not have it is told before anything begins
  Store store(s.report, s.shared());
  if (!do_missing(runs, store, s, jobs, arguments)) return false;
  write_report(s, Results(runs, store));
  std::printf("%s\n", (fs::path(s.report) / "report.html").c_str());
  return true;
}

void add_options(CLI::App& app, Settings& s) {
  const std::string grid = "Grid", sweeps = "Sweeps", memory = "Memory", training = "Training";
  const auto six_n_plus_two = [](const std::string& text) {
    const long layers = std::atol(text.c_str());
    return layers >= 8 && layers <= 100'000 && layers % 6 == 2 ? std::string()
                                                               : "expected 8, 14, 20, ... (6n + 2), got " + text;
  };
  app.add_flag("--quick", s.quick, "a small study, in a few minutes; flags that are given too hold");
  app.add_option("--data", s.data, "folder with CIFAR-10's data_batch_1.bin ... test_batch.bin; without it: ten classes of\n"
                                   "textured shapes, drawn on the spot")
      ->check(CLI::ExistingDirectory);
  app.add_option("--report", s.report, "folder of the report; begun there before, the study goes on")->capture_default_str();
  app.add_option("--jobs", s.jobs, "runs at a time (default: one for each core)")->check(CLI::Range(1, 1024));

  app.add_option("--depths", s.depths, "layers, each 6n + 2: 8, 20, 56, 110, 1202 ...")
      ->delimiter(',')->check(six_n_plus_two)->group(grid)->capture_default_str();
  app.add_option("--connections", s.connections, "plain, post (residual), pre (residual, pre-activated)")
      ->delimiter(',')->check(CLI::IsMember({"plain", "post", "pre"}))->group(grid)->capture_default_str();
  const CLI::IsMember is_norm({"none", "batch", "layer", "group", "instance", "rms", "adaptive"});
  app.add_option("--norms", s.norms, "none, batch, layer, group, instance, rms, adaptive")
      ->delimiter(',')->check(is_norm)->group(grid)->capture_default_str();
  app.add_option("--seeds", s.seeds, "runs of each setting")->check(CLI::Range(1, 1000))->group(grid)->capture_default_str();

  app.add_option("--sweep-depth", s.sweep_depth, "layers of the networks of the sweeps")
      ->check(six_n_plus_two)->group(sweeps)->capture_default_str();
  app.add_option("--sweep-norms", s.sweep_norms, "their norms")
      ->delimiter(',')->check(is_norm)->group(sweeps)->capture_default_str();
  app.add_option("--sweep-lr", s.sweep_lr, "learning rates to try beside --lr")
      ->delimiter(',')->check(CLI::PositiveNumber)->group(sweeps)->capture_default_str();
  app.add_option("--sweep-scale", s.sweep_scale, "factors of the initial weights to try beside 1")
      ->delimiter(',')->check(CLI::PositiveNumber)->group(sweeps)->capture_default_str();
  app.add_flag_callback("--no-sweeps", [&] { s.sweep_lr.clear(), s.sweep_scale.clear(); }, "none of them")->group(sweeps);

  app.add_option("--memory-depths", s.memory_depths, "layers of the networks whose memory is measured, in one step each")
      ->delimiter(',')->check(six_n_plus_two)->group(memory)->capture_default_str();
  app.add_option("--memory-batch", s.memory_batch, "images of that step")
      ->check(CLI::Range(1, 100'000))->group(memory)->capture_default_str();
  app.add_flag_callback("--no-memory", [&] { s.memory_depths.clear(); }, "none of it")->group(memory);

  app.add_option("--train-images", s.train_images, "images to learn from")
      ->check(CLI::Range(2, 1'000'000))->group(training)->capture_default_str();
  app.add_option("--test-images", s.test_images, "images to be judged by")
      ->check(CLI::Range(1, 1'000'000))->group(training)->capture_default_str();
  app.add_option("--width", s.width, "channels of the first stage")
      ->check(CLI::Range(1, 1024))->group(training)->capture_default_str();
  app.add_option("--epochs", s.epochs, "times through the images")
      ->check(CLI::Range(1, 100'000))->group(training)->capture_default_str();
  app.add_option("--batch", s.batch, "images in a batch")->check(CLI::Range(2, 100'000))->group(training)->capture_default_str();
  app.add_option("--lr", s.lr, "highest learning rate, of one cycle")
      ->check(CLI::PositiveNumber)->group(training)->capture_default_str();
  app.add_option("--weight-decay", s.weight_decay, "weight decay")
      ->check(CLI::NonNegativeNumber)->group(training)->capture_default_str();
  app.add_option("--target", s.target, "accuracy to which steps and seconds are counted")
      ->check(CLI::Range(0.0, 1.0))->group(training)->capture_default_str();
  app.add_flag("--augment,!--no-augment", s.augment, "learn from shifted and mirrored images (default: not with --quick)")->group(training);
  app.add_option("--only", s.only, "")->group("");
}

bool is_given(const char* flag, int argc, char** argv) {
  return std::any_of(argv + 1, argv + argc, [&](const char* word) { return std::string_view(word) == flag; });
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  if (is_given("--quick", argc, argv)) settings.make_quick();
  CLI::App app("Measures what residual connections and normalisation do: trains a grid of networks, depth by connection by\n"
               "norm by seed, and writes a report with figures. Stopped at any moment, the same command goes on.");
  add_options(app, settings);
  bool stopped = false;
  const int code = examples::run(app, argc, argv, [&] {
    const int cores = num_threads(), jobs = settings.jobs == 0 ? cores : settings.jobs;
    if (!settings.only.empty()) return do_one(settings, std::max(1, cores / jobs));
    stopped = !do_all(settings, jobs, argv);
  });
  return stopped ? 130 : code;
}
