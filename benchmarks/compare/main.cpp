// Runs residua and libtorch in turns and prints how many times as fast residua is.
#include "common.hpp"

#include <malloc.h>

#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "cases.hpp"
#include "peaks.hpp"
#include "threads.hpp"

using namespace compare;

namespace {

struct Settings {
  int threads = 1, rounds = 10;
  std::string filter, json, models = ".";
  bool list = false;
};

std::vector<Case> wanted_cases(const Settings& settings) {
  std::vector<Case> wanted;
  for (const auto& kind : {matmul_cases(), convolution_cases(), layer_cases(), optimizer_cases(),
                           network_cases(settings.models)}) {
    for (const Case& c : kind) {
      if (c.name.find(settings.filter) != std::string::npos) wanted.push_back(c);
    }
  }
  if (wanted.empty()) {
    throw CLI::ValidationError("--filter", "expected a part of a case's name, got " + settings.filter);
  }
  return wanted;
}

void print_heading(const Settings& settings, const Peaks& peaks) {
  std::printf("threads %d, rounds %d; OpenBLAS for %s; peaks:", settings.threads, settings.rounds,
              openblas_get_corename());
  for (const Rate& rate : peaks.rates) std::printf(" %s %.0f GFLOP/s,", rate.instructions.c_str(), rate.flops * 1e-9);
  std::printf(" copy %.1f GB/s\n", peaks.bytes * 1e-9);
  std::printf("%-42s %28s %28s %6s %15s %13s %9s  %s\n", "case", "residua ms (quartiles)", "peer ms (quartiles)",
              "ratio", "GFLOP/s (peak)", "GB/s (peak)", "differ", "peer's best");
}

/// 1.234 (1.230 - 1.241)
std::string milliseconds(const Times& t) {
  char text[64];
  std::snprintf(text, sizeof text, "%.3f (%.3f - %.3f)", t.median * 1e3, t.lower * 1e3, t.upper * 1e3);
  return text;
}

/// 123.4 (45%), of a peak; nothing where nothing was counted.
std::string share(double per_second, double peak) {
  char text[64] = "";
  if (per_second > 0) std::snprintf(text, sizeof text, "%.1f (%.0f%%)", per_second * 1e-9, 100 * per_second / peak);
  return text;
}

void print_line(const Result& r, const Peaks& peaks) {
  std::printf("%-42s %28s %28s %6.2f %15s %13s %9.1e  %s%s\n", r.name.c_str(), milliseconds(r.ours).c_str(),
              milliseconds(r.peer).c_str(), r.ratio(), share(r.flops / r.ours.median, peaks.flops()).c_str(),
              share(r.bytes / r.ours.median, peaks.bytes).c_str(), r.difference.value, r.way.c_str(),
              r.difference.agrees() ? "" : "  DISAGREES");
  std::fflush(stdout);
}

nlohmann::ordered_json as_json(const Times& t) {
  return {{"lower", t.lower}, {"median", t.median}, {"upper", t.upper}};
}

nlohmann::ordered_json as_json(const Result& r) {
  return {{"name", r.name},
          {"ours", as_json(r.ours)},
          {"peer", as_json(r.peer)},
          {"peer_way", r.way},
          {"ratio", r.ratio()},
          {"flops", r.flops},
          {"bytes", r.bytes},
          {"difference", r.difference.value},
          {"agrees", r.difference.agrees()}};
}

nlohmann::ordered_json as_json(const Settings& settings, const Peaks& peaks) {
  nlohmann::ordered_json json{{"torch", TORCH_VERSION},
                              {"openblas", openblas_get_config()},  // with the processor it takes this one for
                              {"threads", settings.threads},
                              {"rounds", settings.rounds},
                              {"peak_bytes", peaks.bytes}};
  for (const Rate& rate : peaks.rates) json["peak_flops"][rate.instructions] = rate.flops;
  json["cases"] = nlohmann::ordered_json::array();
  return json;
}

void compare_all(const Settings& settings, const std::vector<Case>& cases) {
  if (settings.list) {
    for (const Case& c : cases) std::printf("%s\n", c.name.c_str());
    return;
  }
  std::ofstream file;
  if (!settings.json.empty()) file.open(settings.json);
  if (!file) fail(settings.json, "expected a file that can be written, got one that cannot");

  const Peaks peaks = measure_peaks(settings.threads);
  nlohmann::ordered_json json = as_json(settings, peaks);
  print_heading(settings, peaks);
  int disagree = 0;
  for (const Case& c : cases) {
    if (!c.missing.empty()) {
      std::printf("%-42s skipped: no %s\n", c.name.c_str(), c.missing.c_str());
      continue;
    }
    const Result result = run(c, settings.rounds, [&] { use_threads(settings.threads); });
    print_line(result, peaks);
    json["cases"].push_back(as_json(result));
    if (!result.difference.agrees()) ++disagree;
  }
  if (file.is_open()) file << json.dump(2) << '\n';
  if (disagree > 0) fail("compare", "expected outputs that agree, got ", disagree, " cases that do not");
}

/// Memory that libtorch frees is kept for its next tensor, as residua does by itself: to ask the system for new pages
/// each time costs more than many a layer, and never twice the same.
void keep_freed_memory() {
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
}

}  // namespace

int main(int argc, char** argv) {
  keep_freed_memory();
  CLI::App app("Runs residua and libtorch in turns and prints how many times as fast residua is.");
  Settings settings;
  std::vector<Case> cases;
  app.add_option("--threads", settings.threads, "Threads of both sides")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--rounds", settings.rounds, "How often each side is measured")
      ->check(CLI::Range(10, 100'000))
      ->capture_default_str();
  app.add_option("--filter", settings.filter, "Only cases with this text in their name");
  app.add_flag("--list", settings.list, "Only the names of the cases");
  app.add_option("--json", settings.json, "File to write all results to");
  app.add_option("--models", settings.models, "Folder of what script_models.py wrote")
      ->check(CLI::ExistingDirectory)
      ->capture_default_str();
  app.callback([&] { cases = wanted_cases(settings); });
  return examples::run(app, argc, argv, [&] { compare_all(settings, cases); });
}
