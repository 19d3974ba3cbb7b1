// Peak memory of training steps: each side in a process of its own, which this program starts.
#include "common.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "networks.hpp"
#include "threads.hpp"

using namespace compare;

namespace {

struct Settings {
  int threads = 1;
  std::string models = ".", memory, side;
};

/// A number of KiB from /proc/self/status, in MiB.
double status_mebibytes(const std::string& field) {
  std::ifstream status("/proc/self/status");
  std::string name;
  double kibibytes = 0;
  while (status >> name) {
    if (name == field + ':') {
      status >> kibibytes;
      return kibibytes / 1024;
    }
    status.ignore(1 << 16, '\n');
  }
  fail("/proc/self/status", "expected a line ", field, ", found none");
}

/// In this process: how much memory the network and its training steps took at most. Two steps, because momentum is
/// there from the end of the first on.
double peak_of_steps(const NetworkKind& kind, const std::string& side, const std::string& models) {
  const double before = status_mebibytes("VmRSS");
  const Shape images = kind.images(kind.batch);
  const auto two_steps = [](auto training) {
    training.step();
    training.step();
  };
  if (side == "ours") {
    Random random(1);
    two_steps(OurTraining(kind.make(random), images, kind.classes));
  } else {
    const Format format = side == channels_last.name ? channels_last : contiguous;
    two_steps(PeerTraining(kind.file(models), images, kind.classes, format));
  }
  return status_mebibytes("VmHWM") - before;
}

/// In a process of its own. Throws Error where that fails.
double peak_of_process(const NetworkKind& kind, const std::string& side, const Settings& settings) {
  const std::string program = std::filesystem::read_symlink("/proc/self/exe");
  const std::string command = "'" + program + "' --memory " + kind.name + " --side " + side + " --threads " +
                              std::to_string(settings.threads) + " --models '" + settings.models + "'";
  FILE* const output = popen(command.c_str(), "r");
  double peak = 0;
  const bool read = output != nullptr && std::fscanf(output, "%lf", &peak) == 1;
  if (output == nullptr || pclose(output) != 0 || !read) fail(command, "expected a number of MiB, got none");
  return peak;
}

void compare_memory(const NetworkKind& kind, const Settings& settings) {
  if (!std::filesystem::exists(kind.file(settings.models))) {
    std::printf("%-16s skipped: no %s\n", kind.name, kind.file(settings.models).c_str());
    return;
  }
  const double ours = peak_of_process(kind, "ours", settings);
  const double first = peak_of_process(kind, contiguous.name, settings);
  const double last = peak_of_process(kind, channels_last.name, settings);
  std::printf("%-16s %12.0f %16.0f %20.0f %10.2f\n", kind.name, ours, first, last, ours / std::min(first, last));
  std::fflush(stdout);
}

void measure(const Settings& settings) {
  use_threads(settings.threads);
  for (const NetworkKind& kind : network_kinds()) {
    if (settings.memory == kind.name && !settings.side.empty()) {
      std::printf("%f\n", peak_of_steps(kind, settings.side, settings.models));
      return;
    }
  }
  std::printf("%-16s %12s %16s %20s %10s\n", "training step", "residua MiB", "contiguous MiB", "channels-last MiB",
              "share");
  for (const NetworkKind& kind : network_kinds()) {
    if (settings.memory.empty() || settings.memory == kind.name) compare_memory(kind, settings);
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Peak memory of a training step: residua beside libtorch, each in a process of its own.");
  Settings settings;
  std::vector<std::string> names;
  for (const NetworkKind& kind : network_kinds()) names.emplace_back(kind.name);
  app.add_option("--threads", settings.threads, "Threads of both sides")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--models", settings.models, "Folder of what script_models.py wrote")
      ->check(CLI::ExistingDirectory)
      ->capture_default_str();
  auto* memory = app.add_option("--memory", settings.memory, "Only this network")->check(CLI::IsMember(names));
  app.add_option("--side", settings.side, "Only this side, in this process: prints MiB")
      ->needs(memory)
      ->check(CLI::IsMember({"ours", contiguous.name, channels_last.name}));
  return examples::run(app, argc, argv, [&] { measure(settings); });
}
