// Batches: of any dataset, the same whatever the order, the workers and the threads; and random splits.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <residua/data/data_loader.hpp>
#include <residua/data/split.hpp>
#include <residua/data/textured_shapes.hpp>

#include "errors.hpp"
#include "tensors.hpp"

namespace {

using namespace residua;

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// `count` images of 4×4×1, all pixels of image i being i, which is its label too.
ImageDataset numbered_images(Index count) {
  ImageDataset data{
      Tensor<std::uint8_t>(Shape{count, 4, 4, 1}), std::vector<Index>(static_cast<std::size_t>(count)), {}};
  for (Index i = 0; i < count; ++i) {
    data.images.array().segment(16 * i, 16) = static_cast<std::uint8_t>(i);
    data.labels[static_cast<std::size_t>(i)] = i;
  }
  return data;
}

/// A dataset of one's own: y = (2x, x²) at x = index.
struct Squares {
  Index count = 10;
  Index size() const { return count; }
  Sample<float, Tensor<float>> operator[](Index i) const {
    const auto x = static_cast<float>(i);
    return {Tensor<float>(Shape{1}, x), Tensor<float>(Shape{2}, std::vector<float>{2 * x, x * x})};
  }
};

/// Another one, with classes: whether the index is odd.
struct Parity {
  Index size() const { return 6; }
  Sample<double> operator[](Index i) const { return {Tensor<double>(Shape{2, 1}, static_cast<double>(i)), i % 2}; }
};

/// One whose sample `broken` cannot be had. Counts those that were asked for.
struct Broken {
  Index broken = -1;
  std::atomic<Index>* asked = nullptr;
  Index size() const { return 40; }
  Sample<float> operator[](Index i) const {
    if (asked != nullptr) ++*asked;
    if (i == broken) throw std::runtime_error("sample " + std::to_string(i) + " is broken");
    return {Tensor<float>(Shape{1}, static_cast<float>(i)), i};
  }
};

std::vector<Index> labels_of(const DataLoader<float>& loader, Index epoch, Index first_batch = 0) {
  std::vector<Index> all;
  for (const auto& [images, labels] : loader.epoch(epoch, first_batch)) {
    all.insert(all.end(), labels.begin(), labels.end());
  }
  return all;
}

// --- datasets --------------------------------------------------------------------------------------------------------

TEST(ImageDataset, FirstTakesTheBeginning) {
  const ImageDataset data = numbered_images(5), two = data.first(2);
  EXPECT_EQ(two.labels, (std::vector<Index>{0, 1}));
  EXPECT_EQ(two.images.shape(), (Shape{2, 4, 4, 1}));
  EXPECT_EQ(two.images(1, 3, 3, 0), 1);
  EXPECT_EQ(message([&] { data.first(6); }), "ImageDataset: expected a count from 0 to 5, got 6");
}

TEST(ImageDataset, GivesImagesAndLabelsByTheirIndex) {
  const ImageDataset data = numbered_images(5);
  const auto [image, label] = data[3];
  EXPECT_EQ(image, Tensor<std::uint8_t>(Shape{4, 4, 1}, 3));
  EXPECT_EQ(label, 3);
  EXPECT_EQ(message([&] { data[5]; }), "ImageDataset: expected an index from 0 to 4, got 5");
  EXPECT_EQ(message([&] { data[-1]; }), "ImageDataset: expected an index from 0 to 4, got -1");
  ImageDataset unequal = data;
  unequal.labels.pop_back();
  EXPECT_EQ(message([&] { unequal[0]; }),
            "ImageDataset: expected 4 images [N, H, W, C] for as many labels, got [5, 4, 4, 1]");
}

TEST(MakeBatch, StacksSamplesOfADatasetOfOnesOwn) {
  const auto [inputs, targets] = make_batch<float>(Squares(), std::vector<Index>{3, 0, 5});
  EXPECT_EQ(inputs, Tensor<float>(Shape{3, 1}, std::vector<float>{3, 0, 5}));
  EXPECT_EQ(targets, Tensor<float>(Shape{3, 2}, std::vector<float>{6, 9, 0, 0, 10, 25}));
  const Batch<double> classes = make_batch<double>(Parity(), std::vector<Index>{4, 5});
  EXPECT_EQ(classes.inputs, Tensor<double>(Shape{2, 2, 1}, std::vector<double>{4, 4, 5, 5}));
  EXPECT_EQ(classes.targets, (std::vector<Index>{0, 1}));
}

TEST(MakeBatch, TellsWhatIsWrong) {
  const ImageDataset data = numbered_images(5);
  EXPECT_EQ(message([&] {
              make_batch<float>(data, std::vector<Index>{0, 5});
            }),
            "make_batch: expected indices from 0 to 4, got 5");
  EXPECT_EQ(message([&] { make_batch<float>(data, {}); }), "make_batch: expected at least one index, got none");
  const std::vector<Transform<float>> uneven{
      [](Tensor<float> image, Random&) { return image.cdata()[0] > 0 ? Tensor<float>(Shape{2, 2, 1}) : image; }};
  EXPECT_EQ(message([&] {
              make_batch<float>(data, std::vector<Index>{0, 1}, Random(1), uneven);
            }),
            "make_batch: expected inputs of one shape, [4, 4, 1], got [2, 2, 1] at index 1");
  struct Uneven {
    Index size() const { return 3; }
    Sample<float, Tensor<float>> operator[](Index i) const {
      return {Tensor<float>(Shape{1}), Tensor<float>(Shape{i})};
    }
  };
  EXPECT_EQ(message([&] {
              make_batch<float>(Uneven(), std::vector<Index>{1, 2});
            }),
            "make_batch: expected targets of one shape, [1], got [2] at index 2");
}

// --- the loader ------------------------------------------------------------------------------------------------------

TEST(DataLoader, InOrderKeepsAPartialLastBatch) {
  const ImageDataset data = numbered_images(7);
  const DataLoader<float> loader(data, {.batch_size = 3}, Random(1));
  ASSERT_EQ(loader.size(), 3);
  EXPECT_EQ(loader.samples(), 7);
  EXPECT_EQ(loader.data().size(), 7);
  EXPECT_EQ(labels_of(loader, 0), (std::vector<Index>{0, 1, 2, 3, 4, 5, 6}));
  const auto [images, labels] = loader.batch(0, 2);
  EXPECT_EQ(images.shape(), (Shape{1, 4, 4, 1}));
  EXPECT_EQ(images(0, 2, 2, 0), 6.0f / 255);
  const DataLoader<float> full(data, {.batch_size = 3, .drop_last = true}, Random(1));
  EXPECT_EQ(full.size(), 2);
  EXPECT_EQ(full.samples(), 6);
  EXPECT_EQ(DataLoader<float>(data, {.batch_size = 7, .drop_last = true}, Random(1)).size(), 1);
  const DataLoader<float> none(data, {.batch_size = 8, .num_workers = 2, .drop_last = true}, Random(1));
  EXPECT_EQ(none.size(), 0);
  EXPECT_EQ(none.samples(), 0);
  EXPECT_TRUE(labels_of(none, 0).empty());
}

TEST(DataLoader, ShufflesInAnOrderOfItsOwnInEachEpoch) {
  const ImageDataset data = numbered_images(50);
  const DataLoader<float> loader(data, {.batch_size = 8, .shuffle = true}, Random(1));
  const auto first = labels_of(loader, 0), second = labels_of(loader, 1);
  EXPECT_NE(first, second);
  EXPECT_NE(first, data.labels);
  EXPECT_TRUE(std::is_permutation(first.begin(), first.end(), data.labels.begin(), data.labels.end()));
  EXPECT_TRUE(std::is_permutation(second.begin(), second.end(), data.labels.begin(), data.labels.end()));
  EXPECT_EQ(labels_of(loader, 0), first);
  EXPECT_NE(labels_of(DataLoader<float>(data, {.batch_size = 8, .shuffle = true}, Random(2)), 0), first);
}

TEST(DataLoader, ItselfIsTheRangeOfItsFirstEpoch) {
  const DataLoader<float> loader(numbered_images(20), {.batch_size = 6, .shuffle = true, .num_workers = 1}, Random(1));
  for (int round = 0; round < 2; ++round) {
    std::vector<Index> all;
    for (auto [images, labels] : loader) all.insert(all.end(), labels.begin(), labels.end());
    EXPECT_EQ(all, labels_of(loader, 0));
  }
}

TEST(DataLoader, HandsOverBatchesThatNobodyElseHolds) {
  for (const Index workers : {0, 1}) {
    const DataLoader<float> loader(numbered_images(20), {.batch_size = 6, .num_workers = workers}, Random(1));
    for (auto [images, labels] : loader) EXPECT_TRUE(images.unique());
  }
}

TEST(DataLoader, DrawsForASampleByEpochAndIndexAlone) {
  const ImageDataset data = numbered_images(20);
  const std::vector<Transform<float>> noise{[](Tensor<float> image, Random& rng) {
    image.array() += static_cast<float>(rng.normal());
    return image;
  }};
  // What became of each image, whatever batch it was in.
  const auto pixels = [](const DataLoader<float>& loader, Index epoch) {
    std::vector<float> by_label(20);
    for (const auto& [images, labels] : loader.epoch(epoch)) {
      for (std::size_t n = 0; n < labels.size(); ++n) {
        by_label[static_cast<std::size_t>(labels[n])] = images(static_cast<Index>(n), 0, 0, 0);
      }
    }
    return by_label;
  };
  const DataLoader<float> shuffled(data, {.batch_size = 3, .shuffle = true}, Random(1), noise);
  const DataLoader<float> in_order(data, {.batch_size = 7}, Random(1), noise);
  const auto first = pixels(shuffled, 0);
  EXPECT_EQ(first, pixels(in_order, 0));
  EXPECT_NE(first, pixels(shuffled, 1));
  EXPECT_NE(first, pixels(DataLoader<float>(data, {.batch_size = 7}, Random(2), noise), 0));
}

TEST(DataLoader, GivesTheSameBytesForAnyNumberOfWorkersAndThreads) {
  const int threads = num_threads();
  const ImageDataset data = textured_shapes(50, Random(5));
  const auto made = [&](int many, Index workers) {
    set_num_threads(many);
    const DataLoader<float> loader(data, {.batch_size = 8, .shuffle = true, .num_workers = workers}, Random(1),
                                   {RandomCrop{.size = 32, .padding = 4}, RandomHorizontalFlip{}});
    std::vector<Batch<float>> batches;
    for (auto&& batch : loader.epoch(2)) batches.push_back(std::move(batch));
    return batches;
  };
  const auto expected = made(1, 0);
  ASSERT_EQ(expected.size(), 7u);
  for (const int many : {1, 2, 3}) {
    for (const Index workers : {0, 1, 3}) {
      const auto batches = made(many, workers);
      ASSERT_EQ(batches.size(), expected.size());
      for (std::size_t i = 0; i < batches.size(); ++i) {
        EXPECT_TRUE(same_bits(batches[i].inputs, expected[i].inputs)) << many << " threads, " << workers << " workers";
        EXPECT_EQ(batches[i].targets, expected[i].targets) << many << " threads, " << workers << " workers";
      }
    }
  }
  set_num_threads(threads);
}

TEST(DataLoader, GoesOnInTheMiddleOfAnEpoch) {
  const std::vector<Transform<float>> augment{RandomCrop{.size = 4, .padding = 2}};
  for (const Index workers : {0, 2}) {
    const DataLoader<float> loader(numbered_images(23), {.batch_size = 4, .shuffle = true, .num_workers = workers},
                                   Random(1), augment);
    Index i = 3;
    for (const auto& [images, labels] : loader.epoch(5, 3)) {
      const auto whole = loader.batch(5, i++);
      EXPECT_TRUE(same_bits(images, whole.inputs));
      EXPECT_EQ(labels, whole.targets);
    }
    EXPECT_EQ(i, 6);
    EXPECT_TRUE(labels_of(loader, 5, 6).empty());
  }
}

TEST(DataLoader, LoadsDatasetsOfOnesOwn) {
  const DataLoader<float, Squares> numbers(Squares(), {.batch_size = 4, .num_workers = 1}, Random(1));
  float sum = 0;
  for (auto [inputs, targets] : numbers) {
    EXPECT_EQ(targets.dim(1), 2);
    for (Index n = 0; n < inputs.dim(0); ++n) EXPECT_EQ(targets(n, 1), inputs(n, 0) * inputs(n, 0));
    sum += targets.carray().sum();
  }
  EXPECT_EQ(sum, 2 * 45 + 285);
  const DataLoader<double, Parity> classes(Parity(), {.batch_size = 6}, Random(1));
  EXPECT_EQ(classes.batch(0, 0).targets, (std::vector<Index>{0, 1, 0, 1, 0, 1}));
}

TEST(DataLoader, LetsTheDatasetGo) {
  const auto range = [] {
    return DataLoader<float>(numbered_images(9), {.batch_size = 2, .num_workers = 2}, Random(1)).epoch(0);
  }();
  Index seen = 0;
  for (const auto& [images, labels] : range) seen += images.dim(0);
  EXPECT_EQ(seen, 9);
}

TEST(DataLoader, ThrowsWhatASampleThrewAtItsBatch) {
  for (const Index workers : {0, 1, 3}) {
    const DataLoader<float, Broken> loader(Broken{.broken = 21}, {.batch_size = 4, .num_workers = workers}, Random(1));
    std::vector<Index> seen;
    std::string what;
    try {
      for (const auto& [inputs, labels] : loader) seen.insert(seen.end(), labels.begin(), labels.end());
    } catch (const std::runtime_error& error) {
      what = error.what();
    }
    EXPECT_EQ(what, "sample 21 is broken") << workers << " workers";
    EXPECT_EQ(seen.size(), 20u) << workers << " workers";
  }
}

TEST(DataLoader, StopsItsWorkersWhenTheLoopIsLeft) {
  std::atomic<Index> asked = 0;
  const DataLoader<float, Broken> loader(Broken{.asked = &asked}, {.num_workers = 3, .prefetch_factor = 2}, Random(1));
  for (const auto& batch : loader) {
    EXPECT_EQ(batch.targets[0], 0);
    break;
  }
  const Index after = asked;
  EXPECT_GE(after, 1);
  EXPECT_LE(after, 1 + 6);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(asked, after);
  EXPECT_THROW(
      for (const auto& batch : loader) throw std::invalid_argument(std::to_string(batch.targets[0])),
      std::invalid_argument);
}

TEST(DataLoader, MakesNoMoreBatchesAheadThanAskedFor) {
  std::atomic<Index> asked = 0;
  const DataLoader<float, Broken> loader(Broken{.asked = &asked}, {.num_workers = 2, .prefetch_factor = 3}, Random(1));
  Index taken = 0;
  for (const auto& batch : loader) {
    taken += batch.inputs.dim(0);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    EXPECT_LE(asked, taken + 6);
  }
  EXPECT_EQ(taken, 40);
}

TEST(DataLoader, LeavesThePoolToItsConsumer) {
  const int threads = num_threads();
  set_num_threads(2);
  // A worker sits in a transform's parallel_for until the consumer's own has run in two threads.
  std::atomic<bool> made = false, free = false;
  const std::vector<Transform<float>> slow{[&](Tensor<float> image, Random&) {
    const auto worker = std::this_thread::get_id();
    parallel_for(2, [&](Index) {
      EXPECT_EQ(std::this_thread::get_id(), worker);
      made = true;
      for (int i = 0; i < 2000 && !free; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    });
    return image;
  }};
  const DataLoader<float> loader(numbered_images(1), {.num_workers = 1}, Random(1), slow);
  const auto epoch = loader.epoch(0);
  while (!made) std::this_thread::yield();
  std::atomic<int> met = 0;
  parallel_for(2, [&](Index) {  // each waits for the other, so it takes two threads
    ++met;
    for (int i = 0; i < 2000 && met < 2; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    EXPECT_EQ(met, 2);
  });
  free = true;
  for (const auto& batch : epoch) EXPECT_EQ(batch.targets[0], 0);
  set_num_threads(threads);
}

TEST(DataLoader, TellsWhatIsWrong) {
  const ImageDataset data = numbered_images(5);
  const auto fails = [&](DataLoaderOptions options) {
    return message([&] { DataLoader<float>(data, options, Random(1)); });
  };
  EXPECT_EQ(fails({.batch_size = 0}), "DataLoader: expected batch_size of at least 1, got 0");
  EXPECT_EQ(fails({.num_workers = -1}), "DataLoader: expected num_workers of at least 0, got -1");
  EXPECT_EQ(fails({.prefetch_factor = 0}), "DataLoader: expected prefetch_factor of at least 1, got 0");
  EXPECT_EQ(message([&] { DataLoader<float>(numbered_images(0), {}, Random(1)); }),
            "DataLoader: expected a dataset that is not empty, got one of size 0");
  const DataLoader<float> loader(data, {.batch_size = 2}, Random(1));
  EXPECT_EQ(message([&] { loader.batch(0, 3); }), "DataLoader: expected a batch from 0 to 2, got 3");
  EXPECT_EQ(message([&] { loader.batch(0, -1); }), "DataLoader: expected a batch from 0 to 2, got -1");
  EXPECT_EQ(message([&] { loader.batch(-1, 0); }), "DataLoader: expected an epoch of at least 0, got -1");
  EXPECT_EQ(message([&] { loader.epoch(-2); }), "DataLoader: expected an epoch of at least 0, got -2");
  EXPECT_EQ(message([&] { loader.epoch(0, 4); }), "DataLoader: expected a first_batch from 0 to 3, got 4");
  EXPECT_EQ(message([&] { loader.epoch(0, -1); }), "DataLoader: expected a first_batch from 0 to 3, got -1");
}

// --- splits ----------------------------------------------------------------------------------------------------------

TEST(Randperm, IsAPermutationEachAsLikelyAsAnother) {
  Random rng(1);
  std::vector<int> counts(6);
  for (int i = 0; i < 6000; ++i) {
    const auto order = randperm(3, rng);
    ++counts[static_cast<std::size_t>(2 * order[0] + (order[1] > order[2]))];
  }
  for (const int count : counts) EXPECT_NEAR(count, 1000, 120);
  EXPECT_TRUE(randperm(0, rng).empty());
  EXPECT_EQ(message([&] { randperm(-1, rng); }), "randperm: expected a count of at least 0, got -1");
}

TEST(Subset, IsADatasetOfSomeSamples) {
  const Subset odd(numbered_images(6), {5, 3, 1});
  EXPECT_EQ(odd.size(), 3);
  EXPECT_EQ(odd[1].target, 3);
  EXPECT_EQ(odd.data().size(), 6);
  const DataLoader<float, Subset<ImageDataset>> loader(odd, {.batch_size = 3}, Random(1));
  EXPECT_EQ(loader.batch(0, 0).targets, (std::vector<Index>{5, 3, 1}));
  EXPECT_EQ(message([&] { odd[3]; }), "Subset: expected an index from 0 to 2, got 3");
  EXPECT_EQ(message([&] { odd[-1]; }), "Subset: expected an index from 0 to 2, got -1");
  EXPECT_EQ(message([&] { Subset(numbered_images(6), {0, 6}); }), "Subset: expected indices from 0 to 5, got 6");
  EXPECT_EQ(message([&] { Subset(numbered_images(6), {-1}); }), "Subset: expected indices from 0 to 5, got -1");
}

TEST(RandomSplit, PartsAreDisjointAndCoverTheDataset) {
  const ImageDataset data = numbered_images(101);
  const auto parts = random_split(data, {0.7, 0.2, 0.1}, Random(1));
  ASSERT_EQ(parts.size(), 3u);
  std::vector<Index> all;
  for (const auto& part : parts) {
    EXPECT_FALSE(std::is_sorted(part.indices().begin(), part.indices().end()));
    all.insert(all.end(), part.indices().begin(), part.indices().end());
  }
  std::sort(all.begin(), all.end());
  EXPECT_EQ(all, data.labels);
  const auto again = random_split(data, {0.7, 0.2, 0.1}, Random(1)), other = random_split(data, {0.7, 0.3}, Random(2));
  EXPECT_EQ(again[1].indices(), parts[1].indices());
  EXPECT_NE(other[0].indices(), parts[0].indices());
  EXPECT_EQ(&parts[0].data(), &parts[2].data());
}

TEST(RandomSplit, RoundsAsPyTorchDoes) {
  const auto lengths = [](Index count, const auto& parts) {
    std::vector<Index> result;
    for (const auto& part : random_split(Squares{count}, parts, Random(1))) result.push_back(part.size());
    return result;
  };
  using Fractions = std::vector<double>;
  EXPECT_EQ(lengths(103, Fractions{0.9, 0.1}), (std::vector<Index>{93, 10}));      // 92.7, 10.3
  EXPECT_EQ(lengths(5, Fractions{0.5, 0.5}), (std::vector<Index>{3, 2}));          // 2.5, 2.5
  EXPECT_EQ(lengths(10, Fractions{0.25, 0.25, 0.5}), (std::vector<Index>{3, 2, 5}));
  EXPECT_EQ(lengths(11, std::vector<double>(4, 0.25)), (std::vector<Index>{3, 3, 3, 2}));
  EXPECT_EQ(lengths(10, Fractions{0, 1}), (std::vector<Index>{0, 10}));
  EXPECT_EQ(lengths(1000, std::vector<float>{0.75f, 0.25f}), (std::vector<Index>{750, 250}));
  EXPECT_EQ(lengths(10, std::vector<int>{7, 3}), (std::vector<Index>{7, 3}));
  EXPECT_EQ(random_split(Squares(), {4, 6}, Random(1))[1].size(), 6);
}

TEST(RandomSplit, TellsWhatIsWrong) {
  const auto fails = [](const auto& parts) { return message([&] { random_split(Squares(), parts, Random(1)); }); };
  using Fractions = std::vector<double>;
  const std::string sum = "random_split: expected fractions that sum to 1, got a sum of ";
  EXPECT_EQ(fails(Fractions{0.5, 0.4}), sum + "0.9");
  EXPECT_EQ(fails(Fractions{0.5, 0.75}), sum + "1.25");
  EXPECT_EQ(fails(Fractions{}), sum + "0");
  EXPECT_EQ(fails(Fractions{1.5, -0.5}), "random_split: expected fractions from 0 to 1, got 1.5");
  EXPECT_EQ(fails(Fractions{-0.5, 1.5}), "random_split: expected fractions from 0 to 1, got -0.5");
  EXPECT_EQ(fails(Fractions{nan, 1}), "random_split: expected fractions from 0 to 1, got nan");
  EXPECT_EQ(fails(std::vector<Index>{4, 5}), "random_split: expected lengths that sum to 10, got a sum of 9");
  EXPECT_EQ(fails(std::vector<Index>{-1, 11}), "random_split: expected lengths from 0 to 10, got -1");
  EXPECT_EQ(fails(std::vector<Index>{0, 11}), "random_split: expected lengths from 0 to 10, got 11");
}

}  // namespace
