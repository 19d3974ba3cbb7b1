// gradient_check: does backward compute the derivative of forward?
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <ostream>
#include <sstream>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <residua/core/layer.hpp>

namespace residua::inline RESIDUA_ABI {

struct GradientCheckOptions {
  Mode mode = Mode::train;
  double tolerance = 1e-6;  ///< of the largest gradient of a tensor
  double step = 1e-5;       ///< of the difference quotient, times max(1, |value|)
  std::uint64_t seed = 1;   ///< of the output gradients and of what the layer draws
};

/// What gradient_check found. Errors are relative to the largest gradient of the same tensor.
struct GradientReport {
  double tolerance = 0;
  double max_error = 0;
  std::string worst = "";  ///< where the largest error is, with both values
  Index checked = 0;  ///< elements compared
  Index kinks = 0;    ///< elements left out: the quotient changed when the step was halved, as at a kink of ReLU

  /// All compared elements agree, and at most 1% was left out.
  bool passed() const { return max_error <= tolerance && checked > 0 && kinks * 100 <= checked + kinks; }

  friend std::ostream& operator<<(std::ostream& out, const GradientReport& r) {
    return out << (r.passed() ? "passed" : "FAILED") << ": " << r.checked << " elements, " << r.kinks
               << " at kinks, largest error " << r.max_error << " (tolerance " << r.tolerance << ") at " << r.worst;
  }
};

namespace detail {

/// A tensor to vary, and the gradient that backward computed for it.
struct CheckedTensor {
  std::string name;
  Tensor<double>* value;
  Tensor<double> gradient;
};

/// Difference quotients to the right and to the left.
struct Quotients {
  double right, left;

  double central() const { return (right + left) / 2; }
  double jump() const { return std::abs(right - left); }
};

/// Compares the gradients with central difference quotients of `loss`.
template <typename Loss>
GradientReport compare_gradients(std::vector<CheckedTensor>& tensors, const Loss& loss, const GradientCheckOptions& options) {
  GradientReport report{.tolerance = options.tolerance};
  for (CheckedTensor& tensor : tensors) {
    const Index size = tensor.value->size();
    if (tensor.gradient.shape() != tensor.value->shape()) {
      fail("gradient_check", "expected a gradient of shape ", tensor.value->shape(), " for ", tensor.name, ", got ",
           tensor.gradient.shape());
    }
    std::vector<Quotients> full, half;  // with the whole step and with half of it
    double largest = 0;
    for (Index i = 0; i < size; ++i) {
      const double value = tensor.value->cdata()[i];
      const auto at = [&](double x) {
        tensor.value->data()[i] = x;
        return loss();
      };
      const double middle = at(value), h = options.step * std::max(1.0, std::abs(value));
      full.push_back({(at(value + h) - middle) / h, (middle - at(value - h)) / h});
      half.push_back({(at(value + h / 2) - middle) / (h / 2), (middle - at(value - h / 2)) / (h / 2)});
      tensor.value->data()[i] = value;
      const double analytic = std::abs(tensor.gradient.cdata()[i]);
      largest = std::max({largest, std::abs(half.back().central()), std::isnan(analytic) ? 0 : analytic});
    }
    // A gradient that is all but zero everywhere is compared with 1: the quotients are rounding errors then.
    const double scale = largest < 1e-8 ? 1 : largest;
    for (Index i = 0; i < size; ++i) {
      const Quotients &whole = full[static_cast<std::size_t>(i)], &halved = half[static_cast<std::size_t>(i)];
      const double numeric = halved.central(), analytic = tensor.gradient.cdata()[i];
      // Beside a kink the quotient changes with the step; on it, left and right differ, however small the step.
      const bool beside = std::abs(whole.central() - numeric) > options.tolerance / 2 * scale;
      const bool on = halved.jump() > std::max(options.tolerance * scale, 0.75 * whole.jump());
      if (beside || on) {
        ++report.kinks;
        continue;
      }
      ++report.checked;
      const double error = std::abs(analytic - numeric) / scale;
      if (report.worst.empty() || !(error <= report.max_error)) {
        report.max_error = std::isnan(error) ? std::numeric_limits<double>::infinity() : error;
        std::ostringstream where;
        where << tensor.name << '[' << i << "]: backward " << analytic << ", difference quotient " << numeric;
        report.worst = where.str();
      }
    }
  }
  return report;
}

inline Tensor<double> random_like(const Tensor<double>& x, Random& random) {
  Tensor<double> result(x.shape(), uninitialized);
  for (double *value = result.data(), *end = value + result.size(); value != end; ++value) *value = random.normal();
  return result;
}

inline double dot(const Tensor<double>& a, const Tensor<double>& b) {
  double sum = 0;
  for (Index i = 0; i < a.size(); ++i) sum += a.cdata()[i] * b.cdata()[i];
  return sum;
}

/// Puts parameters and buffers back as they were, whatever happens.
template <typename S>
class KeptState {
 public:
  using Parameters = std::vector<std::pair<std::string, ParameterHandle<S>>>;
  using Buffers = std::vector<std::pair<std::string, BufferHandle<S>>>;

  KeptState(Parameters parameters, Buffers buffers) : parameters_(std::move(parameters)), buffers_(std::move(buffers)) {
    for (auto& [path, p] : parameters_) saved_.insert(saved_.end(), {p->value, p->grad});
    for (auto& [path, b] : buffers_) saved_.push_back(b->value);
  }
  ~KeptState() {
    auto saved = saved_.begin();
    for (auto& [path, p] : parameters_) {
      p->value = std::move(*saved++);
      p->grad = std::move(*saved++);
    }
    for (auto& [path, b] : buffers_) b->value = std::move(*saved++);
  }
  KeptState(const KeptState&) = delete;
  KeptState& operator=(const KeptState&) = delete;

 private:
  Parameters parameters_;
  Buffers buffers_;
  std::vector<Tensor<S>> saved_;
};

/// One result is a tuple of one.
template <typename T> std::tuple<T> as_tuple(T&& value) { return {std::forward<T>(value)}; }
template <typename... T> std::tuple<T...> as_tuple(std::tuple<T...>&& values) { return std::move(values); }
template <typename A, typename B> std::tuple<A, B> as_tuple(std::pair<A, B>&& values) { return std::move(values); }

}  // namespace detail

/// Compares the gradients that layer.backward computes, by every input and every trainable parameter, with central
/// difference quotients of Σ w·forward(inputs…) for random w. The report says how well they agree; nothing is asserted.
///
///     Conv2d<double> conv({.in_channels = 2, .out_channels = 3, .kernel_size = 3}, rng);
///     GradientReport report = gradient_check(conv, x);          // x (N, H, W, 2)
///     if (!report.passed()) std::cerr << report << '\n';
///
/// Several inputs are given as a tuple: gradient_check(layer, std::tuple{x, condition}) calls layer.forward(x, condition,
/// tape); results and gradients may be a tensor, a pair or a tuple. Parameter gradients start at non-zero values, which
/// backward must add to, and free memory is poisoned before each pass. The layer is left as it was.
template <typename L, typename... Inputs>
GradientReport gradient_check(L& layer, std::tuple<Inputs...> inputs, const GradientCheckOptions& options = {}) {
  Random random(options.seed);
  const Random drawn = random.split(1);
  const auto forward = [&](Tape<double>& tape) {
    return std::apply([&](auto&... x) { return detail::as_tuple(layer.forward(x..., tape)); }, inputs);
  };

  auto parameters = named_parameters<double>(layer);
  const detail::KeptState<double> state(parameters, named_buffers<double>(layer));
  std::vector<Tensor<double>> start;
  for (auto& [name, p] : parameters) {
    start.push_back(p->requires_grad ? detail::random_like(p->value, random) : Tensor<double>());
    p->grad = start.back();
  }

  Random draws = drawn;
  Tape<double> tape(draws, {.mode = options.mode});
  detail::MemoryCache::instance().poison();
  const auto outputs = forward(tape);
  const auto weights =
      std::apply([&](const auto&... y) { return std::tuple{detail::random_like(y, random)...}; }, outputs);
  detail::MemoryCache::instance().poison();
  auto gradients =
      std::apply([&](const auto&... w) { return detail::as_tuple(layer.backward(w..., tape)); }, weights);

  std::vector<detail::CheckedTensor> tensors;
  [&]<std::size_t... i>(std::index_sequence<i...>) {
    (tensors.push_back({"input " + std::to_string(i), &std::get<i>(inputs), std::get<i>(gradients)}), ...);
  }(std::index_sequence_for<Inputs...>());
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    auto& [name, p] = parameters[i];
    if (!p->requires_grad) continue;
    Tensor<double> added = p->grad;
    if (added.shape() == start[i].shape()) added.array() -= start[i].carray();
    tensors.push_back({name, &p->value, added});
  }
  const auto loss = [&] {
    Random again = drawn;
    Tape<double> unrecorded(again, {.mode = options.mode, .record = false});
    const auto y = forward(unrecorded);
    return [&]<std::size_t... i>(std::index_sequence<i...>) {
      return (detail::dot(std::get<i>(weights), std::get<i>(y)) + ...);
    }(std::make_index_sequence<std::tuple_size_v<decltype(outputs)>>());
  };
  return detail::compare_gradients(tensors, loss, options);
}

/// As above, for a layer of one input.
template <typename L>
GradientReport gradient_check(L& layer, Tensor<double> x, const GradientCheckOptions& options = {}) {
  return gradient_check(layer, std::tuple<Tensor<double>>(std::move(x)), options);
}

}  // namespace residua::inline RESIDUA_ABI
