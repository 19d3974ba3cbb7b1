// Says what pictures show, with a network that PyTorch trained.
#include "pretrained.hpp"

#include <cmath>
#include <fstream>
#include <numeric>

#include <residua/io/images.hpp>

using namespace residua;

namespace {

struct Settings {
  examples::Pretrained network;
  std::string labels;
  std::vector<std::string> images;
  int threads = 0;
};

std::vector<std::string> read_labels(const std::string& path, Index classes) {
  std::vector<std::string> names;
  if (path.empty()) {
    for (Index i = 0; i < classes; ++i) names.push_back("class " + std::to_string(i));
    return names;
  }
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) names.push_back(line);
  if (static_cast<Index>(names.size()) != classes) {
    fail(path, "expected ", classes, " lines, a class each, got ", names.size());
  }
  return names;
}

/// The five likeliest classes, a line each.
void print_best(const Tensor<float>& probabilities, const std::vector<std::string>& names) {
  std::vector<Index> order(names.size());
  std::iota(order.begin(), order.end(), Index{0});
  const auto best = order.begin() + std::min<std::ptrdiff_t>(5, static_cast<std::ptrdiff_t>(order.size()));
  std::partial_sort(order.begin(), best, order.end(),
                    [&](Index a, Index b) { return probabilities(0, a) > probabilities(0, b); });
  for (auto i = order.begin(); i != best; ++i) {
    std::printf("  %6.2f%%  %s\n", 100 * static_cast<double>(probabilities(0, *i)),
                names[static_cast<std::size_t>(*i)].c_str());
  }
}

void classify(const Settings& settings) {
  if (settings.threads != 0) set_num_threads(settings.threads);
  const ImageClassification preset = examples::preset_of(settings.network.model);
  const auto net = inference(settings.network.load());
  const Softmax<float> softmax;
  std::vector<std::string> names;
  for (const std::string& path : settings.images) {
    const Tensor<float> x = preset(read_image(path));
    const Stopwatch watch;
    const Tensor<float> probabilities = softmax(net(x));
    const double seconds = watch.seconds();
    if (names.empty()) names = read_labels(settings.labels, probabilities.features());
    std::printf("%s  (%.1f ms)\n", path.c_str(), 1000 * seconds);
    print_best(probabilities, names);
  }
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  CLI::App app("Names the five likeliest classes of each image, with their probabilities.");
  settings.network.add_options(app);
  app.add_option("--labels", settings.labels, "text file with the classes' names, one a line")->check(CLI::ExistingFile);
  app.add_option("--threads", settings.threads, "default: OMP_NUM_THREADS, else the number of cores")
      ->check(CLI::Range(1, 1024));
  app.add_option("images", settings.images, "PNG or JPEG files")->required()->check(CLI::ExistingFile);
  return examples::run(app, argc, argv, [&] { classify(settings); });
}
