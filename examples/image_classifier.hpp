// What train_image_classifier and evaluate share: the images they read and the network they build.
#pragma once

#include "common.hpp"

#include <filesystem>
#include <map>

#include <residua/models/cifar_resnet.hpp>

namespace examples {

using namespace residua;
namespace fs = std::filesystem;

// --- images ----------------------------------------------------------------------------------------------------------

/// What to learn from, what to be judged by, and how the pixels are brought to mean 0 and deviation 1.
struct Images {
  std::string name;
  ImageDataset train, test;
  Normalize normalize;
  bool mirrored;  // whether a picture's mirror image shows the same

  Index channels() const { return test.images.dim(3); }
  Index size() const { return test.images.dim(1); }
  Index classes() const { return static_cast<Index>(test.classes.size()); }
};

struct ImageSource {
  std::string folder;
  Index train_images = 0;  // 0: all
  double held_out = 0;

  void add_options(CLI::App& app) {
    app.add_option("--data", folder,
                   "folder with CIFAR-10's data_batch_1.bin ... test_batch.bin, CIFAR-100's train.bin and test.bin, or the\n"
                   "IDX files of MNIST's family; without it: ten classes of textured shapes, drawn on the spot")
        ->check(CLI::ExistingDirectory);
    app.add_option("--train-images", train_images, "train on the first so many images only")
        ->check(CLI::Range(2, 1'000'000));
    app.add_option("--held-out", held_out,
                   "judge by this share of the training images, which is not trained on, instead of the test images\n"
                   "(default: 0; 0.1 where the folder has test images alone, which are then divided)")
        ->check(CLI::Range(0.0, 0.9));
  }

  Images read() const {
    Images images = read_all();
    if (train_images != 0) images.train = images.train.first(train_images);
    if (held_out > 0) hold_out(images, held_out);
    return images;
  }

 private:
  Images read_all() const {
    const fs::path path(folder);
    if (folder.empty()) {
      return {"textured shapes", textured_shapes(train_images != 0 ? train_images : 5000, Random(1)),
              textured_shapes(2000, Random(2)), {{0.5, 0.5, 0.5}, {0.25, 0.25, 0.25}}, true};
    }
    const Normalize natural{{0.4914, 0.4822, 0.4465}, {0.2470, 0.2435, 0.2616}};
    if (fs::exists(path / "train.bin") || fs::exists(path / "test.bin")) {
      return {"CIFAR-100", read_cifar100(path, Split::train), read_cifar100(path, Split::test), natural, true};
    }
    if (!has_idx(path, "train") && !has_idx(path, "t10k")) {
      return {"CIFAR-10", read_cifar10(path, Split::train), read_cifar10(path, Split::test), natural, true};
    }
    const bool whole = has_idx(path, "train");
    Images digits{"IDX images", read_mnist(path, whole ? Split::train : Split::test), {}, {{0.1307}, {0.3081}}, false};
    if (whole) {
      digits.test = read_mnist(path, Split::test);
    } else {
      hold_out(digits, held_out > 0 ? held_out : 0.1);
    }
    return digits;
  }

  static bool has_idx(const fs::path& folder, const std::string& part) {
    return fs::exists(folder / (part + "-images-idx3-ubyte")) || fs::exists(folder / (part + "-images.idx3-ubyte"));
  }

 public:
  /// Whether the images are small and simple enough for a small network.
  bool simple() const { return folder.empty() || has_idx(folder, "train") || has_idx(folder, "t10k"); }

 private:
  /// Takes a share of the training images, drawn at random but always the same, as test images.
  static void hold_out(Images& images, double share) {
    Random random(3);
    const auto parts = random_split(images.train, {1 - share, share}, random);
    images.test = taken(images.train, parts[1].indices());
    images.train = taken(images.train, parts[0].indices());
  }

  static ImageDataset taken(const ImageDataset& from, const std::vector<Index>& indices) {
    const Index count = static_cast<Index>(indices.size()), bytes = from.images.size() / std::max<Index>(from.size(), 1);
    ImageDataset to{Tensor<std::uint8_t>(from.images.shape().with(0, count)), {}, from.classes};
    std::uint8_t* pixels = to.images.data();
    for (const Index i : indices) {
      pixels = std::copy_n(from.images.cdata() + i * bytes, bytes, pixels);
      to.labels.push_back(from.labels[static_cast<std::size_t>(i)]);
    }
    return to;
  }
};

// --- the network -----------------------------------------------------------------------------------------------------

/// A residual network (He et al. 2015, section 4.2; 2016 with order pre_activation) as its flags describe it.
struct Architecture {
  Index depth = 0, width = 16;
  std::string norm = "batch", order = "post_activation", shortcut = "subsample";

  void add_options(CLI::App& app) {
    const auto six_n_plus_two = [](const std::string& text) {
      const long layers = std::atol(text.c_str());
      return layers >= 8 && layers % 6 == 2 ? std::string() : "expected 8, 14, 20, ... (6n + 2), got " + text;
    };
    app.add_option("--depth", depth, "layers: 8, 14, 20, 32, 44, 56, 110, 1202 ... (default: 20; for shapes and digits 8)")
        ->check(six_n_plus_two);
    app.add_option("--width", width, "channels of the first stage")->check(CLI::Range(1, 4096))->capture_default_str();
    app.add_option("--norm", norm, "batch, layer, group, instance, rms or none")
        ->check(CLI::IsMember({"batch", "layer", "group", "instance", "rms", "none"}))
        ->capture_default_str();
    app.add_option("--order", order, "post_activation (relu after the sum), pre_activation, or plain (no relu)")
        ->check(CLI::IsMember({"post_activation", "pre_activation", "plain"}))
        ->capture_default_str();
    app.add_option("--shortcut", shortcut, "where the shape changes: subsample (option A) or projection (option B)")
        ->check(CLI::IsMember({"subsample", "projection"}))
        ->capture_default_str();
  }

  Sequential<float> build(Index image_channels, Index classes, Random& rng) const {
    static const std::map<std::string, Order> orders{{"post_activation", Order::post_activation},
                                                     {"pre_activation", Order::pre_activation},
                                                     {"plain", Order::plain}};
    return cifar_resnet<float>(depth,
                               {.num_classes = classes,
                                .shortcut = shortcut == "projection" ? Shortcut::projection : Shortcut::subsample,
                                .order = orders.at(order),
                                .norm = Norm<float>::named(norm),
                                .in_channels = image_channels,
                                .channels = width},
                               rng);
  }

  /// What a checkpoint says of its network.
  std::map<std::string, std::string> described() const {
    return {{"depth", std::to_string(depth)}, {"width", std::to_string(width)}, {"norm", norm}, {"order", order},
            {"shortcut", shortcut}};
  }

  /// The network that a checkpoint says it has. Throws Error where it says nothing that makes sense.
  static Architecture from(const std::map<std::string, std::string>& described, const std::string& place) {
    const auto text = [&](const char* key) {
      const auto found = described.find(key);
      if (found == described.end()) fail(place, "expected a checkpoint of train_image_classifier, found no ", key);
      return found->second;
    };
    Architecture a{std::atol(text("depth").c_str()), std::atol(text("width").c_str()), text("norm"), text("order"),
                   text("shortcut")};
    const bool known = a.order == "post_activation" || a.order == "pre_activation" || a.order == "plain";
    if (a.depth < 8 || a.depth % 6 != 2 || a.depth > 100'000 || a.width < 1 || a.width > 4096 || !known) {
      fail(place, "expected a depth of 6n + 2, a width from 1 to 4096 and an order that there is, got ", a.depth, ", ",
           a.width, " and ", a.order);
    }
    return a;
  }
};

/// The loss of training and of evaluation.
inline constexpr auto classifier_loss = [](const auto& logits, const auto& targets) {
  return cross_entropy(logits, targets);
};

/// How many of the images are named right, then each class on a line of its own.
inline void print_evaluation(const Evaluation& result, const std::vector<std::string>& classes) {
  const ClassificationMetrics& metrics = *result.metrics;
  const Index right = metrics.right();
  std::printf("test accuracy: %ld of %ld right (%.2f%%), top 5 %.2f%%, loss %.4f\n\n%s", static_cast<long>(right),
              static_cast<long>(metrics.rows()), 100 * metrics.accuracy(), 100 * metrics.top_k_accuracy(5), result.loss,
              metrics.table(classes).c_str());
}

}  // namespace examples
