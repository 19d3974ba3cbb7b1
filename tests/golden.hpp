// Golden files: what PyTorch computed, read and compared with what residua computes. golden/make_golden*.py make them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <residua/core/layer.hpp>

namespace golden {

using namespace residua;

// --- the files -------------------------------------------------------------------------------------------------------

/// All tensors of tests/golden/<name>.golden: each is a line "name type sizes…", then its numbers, little-endian.
inline std::map<std::string, Tensor<double>> read(const std::string& name) {
  const auto path = std::filesystem::path(__FILE__).parent_path() / "golden" / (name + ".golden");
  std::ifstream in(path, std::ios::binary);
  std::map<std::string, Tensor<double>> tensors;
  for (std::string line; std::getline(in, line);) {
    std::istringstream header(line);
    std::string tensor, type;
    header >> tensor >> type;
    Shape shape;
    for (Index size; header >> size;) shape.append(size);
    const std::size_t bytes = type == "float32" ? 4 : type == "float64" ? 8 : 0;
    std::string numbers(static_cast<std::size_t>(shape.size()) * bytes, '\0');
    if (bytes == 0 || !in.read(numbers.data(), static_cast<std::streamsize>(numbers.size()))) break;
    Tensor<double> values(shape);
    for (Index i = 0; i < shape.size(); ++i) {
      const char* number = numbers.data() + static_cast<std::size_t>(i) * bytes;
      float single = 0;
      if (bytes == 4) std::memcpy(&single, number, bytes);
      if (bytes == 8) std::memcpy(values.data() + i, number, bytes);
      if (bytes == 4) values.data()[i] = static_cast<double>(single);
    }
    tensors.emplace(tensor, std::move(values));
  }
  if (tensors.empty() || !in.eof()) fail(path.string(), "expected a golden file, got one that cannot be read");
  return tensors;
}

// --- comparison ------------------------------------------------------------------------------------------------------

/// What is allowed between a number and the expected one: absolute + relative · |expected| + of_largest · the largest
/// expected one.
struct Tolerance {
  double absolute = 0, relative = 0, of_largest = 0;
};

template <typename S> inline constexpr Tolerance for_outputs{.of_largest = 1e-10};
template <> inline constexpr Tolerance for_outputs<float>{.absolute = 1e-5, .relative = 1.3e-6};

template <typename S> inline constexpr Tolerance for_gradients{.of_largest = 1e-10};
template <> inline constexpr Tolerance for_gradients<float>{.of_largest = 1e-4};

/// Where the i-th number of a tensor stands: [n, h, w, c].
inline Shape position(const Shape& shape, Index i) {
  std::vector<Index> at(static_cast<std::size_t>(shape.rank()));
  for (Index axis = shape.rank(); axis-- > 0; i /= shape[axis]) at[static_cast<std::size_t>(axis)] = i % shape[axis];
  return Shape(at);
}

/// The largest finite magnitude.
inline double largest(const Tensor<double>& tensor) {
  double result = 0;
  for (double value : tensor.carray()) {
    if (std::isfinite(value)) result = std::max(result, std::abs(value));
  }
  return result;
}

/// Equal shapes, and numbers within the tolerance. NaN agrees with NaN, infinity with the same infinity.
template <typename S>
testing::AssertionResult agree(const Tensor<S>& got, const Tensor<double>& expected, Tolerance tolerance) {
  if (got.shape() != expected.shape()) {
    return testing::AssertionFailure() << "got shape " << got.shape() << ", expected " << expected.shape();
  }
  const double everywhere = tolerance.absolute + tolerance.of_largest * largest(expected);
  Index wrong = 0, first = 0;
  for (Index i = got.size(); i-- > 0;) {
    const double g = static_cast<double>(got.cdata()[i]), e = expected.cdata()[i];
    const bool same = g == e || (std::isnan(g) && std::isnan(e));
    if (same || (std::isfinite(e) && std::abs(g - e) <= everywhere + tolerance.relative * std::abs(e))) continue;
    ++wrong;
    first = i;
  }
  if (wrong == 0) return testing::AssertionSuccess();
  return testing::AssertionFailure() << wrong << " of " << got.size() << " numbers differ, the first at "
                                     << position(got.shape(), first) << ": got " << std::setprecision(17)
                                     << got.cdata()[first] << ", expected " << expected.cdata()[first];
}

// --- layers ----------------------------------------------------------------------------------------------------------

/// The cases of one golden file whose names begin with `prefix`. At its end it fails for those that were not checked.
template <typename S>
class Cases {
 public:
  Cases(const std::string& file, std::string prefix) : tensors_(read(file)), prefix_(std::move(prefix)) {
    for (const auto& [name, tensor] : tensors_) {
      if (name.starts_with(prefix_)) unchecked_.insert(name.substr(0, name.find(':')));
    }
  }
  ~Cases() {
    if (std::uncaught_exceptions() > 0) return;
    for (const std::string& name : unchecked_) ADD_FAILURE() << name << " is in the file, but was not checked";
  }

  /// One step, forward and backward, of a layer that starts with the case's parameters and buffers, and with gradients
  /// that are not zero. Compared are output, gradients, and the buffers after the step. Returns the layer as it is then.
  Layer<S> check(const std::string& name, Layer<S> layer, Mode mode = Mode::train) {
    begin(name);
    start(layer);
    Random random(1);
    Tape<S> tape(random, {.mode = mode});
    const Tensor<S> x = at("x").template cast<S>(), dy = at("dy").template cast<S>();
    Layer<S> copy = layer;
    Tape<S> forgetful(random, {.mode = mode, .record = false});
    const Tensor<S> y_forgotten = layer.forward(at("x").template cast<S>(), forgetful);
    const Tensor<S> y = layer.forward(x, tape), dx = layer.backward(dy, tape);
    compare("y", y, for_outputs<S>);
    compare("dx", dx, for_gradients<S>);
    EXPECT_TRUE(tape.empty()) << case_ << " leaves something on the tape";
    EXPECT_TRUE(agree(x, at("x"), {})) << case_ << " changes an input it shares";
    EXPECT_TRUE(agree(dy, at("dy"), {})) << case_ << " changes an output gradient it shares";
    EXPECT_TRUE(agree(y_forgotten, y.template cast<double>(), {})) << case_ << ":y, without recording";
    const Tensor<S> y_alone = copy.forward(at("x").template cast<S>(), tape);
    EXPECT_TRUE(agree(y_alone, y.template cast<double>(), {})) << case_ << ":y, from an input nobody else holds";
    const Tensor<S> dx_alone = copy.backward(at("dy").template cast<S>(), tape);
    EXPECT_TRUE(agree(dx_alone, dx.template cast<double>(), {})) << case_ << ":dx, from a gradient nobody else holds";
    finish(layer);
    return layer;
  }

  // The parts of check, for what takes or gives more than one tensor.

  /// The case that what follows is about.
  void begin(const std::string& name) {
    case_ = prefix_ + name;
    EXPECT_EQ(unchecked_.erase(case_), 1u) << case_ << " is not in the file, or was checked before";
  }

  bool has(const std::string& tensor) const { return tensors_.contains(case_ + ":" + tensor); }
  const Tensor<double>& at(const std::string& tensor) const {
    const auto found = tensors_.find(case_ + ":" + tensor);
    if (found == tensors_.end()) fail(case_, "expected a tensor '", tensor, "' in the golden file, found none");
    return found->second;
  }
  void compare(const std::string& tensor, const Tensor<S>& got, Tolerance tolerance) const {
    EXPECT_TRUE(agree(got, at(tensor), tolerance)) << case_ << ":" << tensor;
  }

  /// Gives a layer the case's parameters and buffers, and gradients that are not zero.
  template <typename L>
  void start(L& layer) {
    for (auto& [name, p] : residua::named_parameters<S>(layer)) {
      set(name, p->value);
      p->grad = start_gradient(at(name + ".grad")).template cast<S>();
    }
    for (auto& [name, b] : residua::named_buffers<S>(layer)) set(name, b->value);
  }

  /// Compares what was added to the gradients, and the buffers.
  template <typename L>
  void finish(L& layer) {
    Index compared = 0;
    for (auto& [name, p] : residua::named_parameters<S>(layer)) {
      Tensor<S> added = p->grad;
      added.array() -= start_gradient(at(name + ".grad")).template cast<S>().carray();
      compare(name + ".grad", added, for_gradients<S>);
      ++compared;
    }
    for (auto& [name, b] : residua::named_buffers<S>(layer)) {
      compare(name + ".after", b->value, for_outputs<S>);
      ++compared;
    }
    const auto of_case = [&](const auto& entry) {
      const std::string& name = entry.first;
      return name.starts_with(case_ + ":") && (name.ends_with(".grad") || name.ends_with(".after"));
    };
    EXPECT_EQ(compared, std::count_if(tensors_.begin(), tensors_.end(), of_case)) << case_ << ": parameters, buffers";
  }

 private:
  /// What a gradient is added to: numbers no larger than its own, so that they hide no error of it.
  static Tensor<double> start_gradient(const Tensor<double>& gradient) {
    Tensor<double> start(gradient.shape());
    const double size = static_cast<double>(static_cast<float>(largest(gradient)));
    for (Index i = 0; i < start.size(); ++i) start.data()[i] = size * static_cast<double>(i % 3 - 1);
    return start;
  }

  void set(const std::string& name, Tensor<S>& value) {
    if (!has(name)) return;  // a further step: it goes on from where the last one ended
    EXPECT_EQ(value.shape(), at(name).shape()) << case_ << ":" << name;
    value = at(name).template cast<S>();
  }

  std::map<std::string, Tensor<double>> tensors_;
  std::string prefix_, case_;
  std::set<std::string> unchecked_;
};

}  // namespace golden
