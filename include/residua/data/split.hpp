// Parts of a dataset: those at given indices, and a random split.
#pragma once

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <residua/core/random.hpp>
#include <residua/data/dataset.hpp>
#include <residua/data/randperm.hpp>

namespace residua::inline RESIDUA_ABI {

/// The samples of a dataset at some indices, in their order: a dataset too. It holds the dataset by value; copies of
/// the subset share it.
template <Dataset Data>
class Subset {
 public:
  /// Throws Error for an index that the dataset does not have.
  Subset(Data data, std::vector<Index> indices)
      : Subset(std::make_shared<const Data>(std::move(data)), std::move(indices)) {}
  Subset(std::shared_ptr<const Data> data, std::vector<Index> indices)
      : data_(std::move(data)), indices_(std::move(indices)) {
    for (const Index index : indices_) {
      if (index < 0 || index >= data_->size()) {
        fail("Subset", "expected indices from 0 to ", data_->size() - 1, ", got ", index);
      }
    }
  }

  Index size() const { return static_cast<Index>(indices_.size()); }

  /// Throws Error for an index that is out of range.
  auto operator[](Index i) const {
    if (i < 0 || i >= size()) fail("Subset", "expected an index from 0 to ", size() - 1, ", got ", i);
    return (*data_)[indices_[static_cast<std::size_t>(i)]];
  }

  const Data& data() const { return *data_; }
  const std::vector<Index>& indices() const { return indices_; }

 private:
  std::shared_ptr<const Data> data_;
  std::vector<Index> indices_;
};

namespace detail {

/// Each part has the whole number below its share; what is left over goes to the first parts, one each.
inline std::vector<Index> part_lengths(Index count, std::span<const double> fractions) {
  double sum = 0;
  for (const double fraction : fractions) {
    if (!(fraction >= 0 && fraction <= 1)) fail("random_split", "expected fractions from 0 to 1, got ", fraction);
    sum += fraction;
  }
  if (!(std::abs(sum - 1) <= 1e-9)) fail("random_split", "expected fractions that sum to 1, got a sum of ", sum);
  std::vector<Index> lengths;
  Index left = count;
  for (const double fraction : fractions) {
    lengths.push_back(std::min(left, static_cast<Index>(std::floor(static_cast<double>(count) * fraction))));
    left -= lengths.back();
  }
  for (std::size_t part = 0; left > 0; part = (part + 1) % lengths.size(), --left) ++lengths[part];
  return lengths;
}

inline std::vector<Index> part_lengths(Index count, std::span<const Index> lengths) {
  Index sum = 0;
  for (const Index length : lengths) {
    if (length < 0 || length > count) fail("random_split", "expected lengths from 0 to ", count, ", got ", length);
    sum += length;
  }
  if (sum != count) fail("random_split", "expected lengths that sum to ", count, ", got a sum of ", sum);
  return {lengths.begin(), lengths.end()};
}

}  // namespace detail

/// Cuts a dataset at random into parts that do not overlap, as PyTorch's random_split: by fractions that sum to 1, or
/// by lengths that sum to its size.
///
///     auto parts = random_split(data, {0.9, 0.1}, Random(1));    // parts[0] to learn from, parts[1] to validate with
///
/// A fraction's part has ⌊fraction · size⌋ samples; what is left over goes to the first parts, one each. The cut
/// depends on the key of `random` alone, not on what was drawn from it. Throws Error for fractions outside of [0, 1] or
/// with another sum, and for lengths below 0 or with another sum.
template <Dataset Data, typename Number>
std::vector<Subset<Data>> random_split(Data data, std::span<const Number> parts, const Random& random) {
  using Wide = std::conditional_t<std::is_floating_point_v<Number>, double, Index>;
  const std::vector<Wide> wide(parts.begin(), parts.end());
  const std::vector<Index> lengths = detail::part_lengths(data.size(), std::span<const Wide>(wide));
  Random own = random.split(0x73706c6974);  // a key of its own: a loader with the same Random draws other numbers
  const std::vector<Index> order = randperm(data.size(), own);
  const auto shared = std::make_shared<const Data>(std::move(data));
  std::vector<Subset<Data>> subsets;
  auto first = order.begin();
  for (const Index length : lengths) {
    subsets.emplace_back(shared, std::vector<Index>(first, first + length));
    first += length;
  }
  return subsets;
}
template <Dataset Data, typename Number>
std::vector<Subset<Data>> random_split(Data data, std::initializer_list<Number> parts, const Random& random) {
  return random_split(std::move(data), std::span<const Number>(parts.begin(), parts.size()), random);
}
template <Dataset Data, typename Number>
std::vector<Subset<Data>> random_split(Data data, const std::vector<Number>& parts, const Random& random) {
  return random_split(std::move(data), std::span<const Number>(parts), random);
}

}  // namespace residua::inline RESIDUA_ABI
