// fit: the usual training loop, as one call.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <residua/core/state.hpp>
#include <residua/core/tape.hpp>
#include <residua/loss/cross_entropy.hpp>
#include <residua/optim/averaged_model.hpp>
#include <residua/optim/clip_grad.hpp>
#include <residua/optim/schedule.hpp>
#include <residua/train/history.hpp>
#include <residua/train/evaluate.hpp>
#include <residua/train/progress.hpp>

namespace residua::inline RESIDUA_ABI {

enum class Every { step, epoch };
enum class Goal { min, max };

/// What a callback of fit sees: after each step of the optimizer and each epoch, before the first and after the last.
struct FitEvent {
  enum class At { start, step, epoch, end };

  At at;
  const Index &epoch, &batch, &step;  ///< how many are done: whole epochs, batches of the one under way, steps in all
  const double& loss;                 ///< of the last step
  const double& gradient_norm;        ///< of the last step, before clipping; 0 without clipping
  const History& history;      ///< one row for each epoch done
  const State& state;          ///< all that a resumed run needs: see io/checkpoint.hpp
  std::FILE* progress;         ///< where messages go; may be null
  bool stop = false;           ///< set it, and fit returns after this step or epoch
};

using FitCallback = std::function<void(FitEvent&)>;

template <typename Net>
struct FitOptions {
  Index epochs = 1;
  Schedule* schedule = nullptr;
  Every schedule_every = Every::step;        ///< when the schedule steps; ReduceLROnPlateau needs Every::epoch
  Index accumulate = 1;                      ///< batches whose gradients make one step, each with an equal share
  double max_norm = 0;                       ///< gradients are clipped to this norm; 0: not at all
  AveragedModel<Net>* average = nullptr;     ///< updated after each step, and then what is validated and kept as best
  std::function<Measures(const Net&)> validate = {};  ///< after each epoch; its names get "val_" in front
  std::string monitor = "";                  ///< the column that tells the best epoch; default: val_loss, else loss
  Goal goal = Goal::min;                     ///< whether the monitored column should be small or large
  Index patience = 0;                        ///< stop after so many epochs without a better one; 0: never
  double min_delta = 0;                      ///< by how much an epoch must be better to count
  bool keep_best = false;                    ///< keep the best epoch's network, for FitResult::best
  std::vector<FitCallback> callbacks = {};   ///< called in this order
  std::function<void(const Observation<typename Net::Scalar>&)> observe = {};  ///< of each tape: see train/probes.hpp
  std::FILE* progress = nullptr;             ///< the progress line, with speed and time left
  std::string unit = "samples";              ///< what the progress line counts
};

/// What fit returns.
template <typename Net>
struct FitResult {
  History history;
  Index epochs = 0;             ///< done in all, those before a resume included
  Index steps = 0;
  bool stopped = false;         ///< by a callback: neither all epochs are done nor was patience at its end
  Index best_epoch = 0;         ///< counted from 1; 0 before the first epoch has ended
  double best_value = 0;        ///< of the monitored column
  std::optional<Net> best;      ///< the network after the best epoch, with keep_best
  double seconds = 0;           ///< in this call
  double data_seconds = 0;      ///< of these, spent waiting for batches
};

namespace detail {

/// fit, taken apart.
template <typename Net, typename Loader, typename LossFunction>
class Fit {
 public:
  using S = typename Net::Scalar;
  static constexpr bool labelled = is_labels<decltype((*std::declval<const Loader&>().begin()).targets)>;

  Fit(Net& net, Optimizer<S>& optimizer, const Loader& loader, LossFunction& loss, Random& random,
      const FitOptions<Net>& options)
      : net_(net), optimizer_(optimizer), loader_(loader), loss_(loss), random_(random), options_(options),
        monitor_(!options.monitor.empty() ? options.monitor : options.validate ? "val_loss" : "loss") {
    check_options();
    state_.add("", net_).add("optimizer", optimizer_).add("random", random_).add("fit", *this);
    if (options_.schedule != nullptr) state_.add("schedule", *options_.schedule);
    if (options_.average != nullptr) state_.add("average", *options_.average);
    if (options_.keep_best) {
      best_.emplace(validated());
      state_.add("best", *best_);
    }
  }

  FitResult<Net> run() {
    tell(FitEvent::At::start);
    check_position();
    Progress progress(options_.progress, options_.epochs * loader_.samples(), options_.unit, samples_done());
    while (!stopped_ && epoch_ < options_.epochs && !out_of_patience()) {
      train_epoch(progress);
      if (stopped_) break;
      finish_epoch();
      progress.clear();
      tell(FitEvent::At::epoch);
    }
    progress.clear();
    const bool stopped = stopped_;
    tell(FitEvent::At::end);
    return {history_, epoch_, step_, stopped, best_epoch_, best_value_, std::move(best_), watch_.seconds(), data_seconds_};
  }

  /// Where the run is.
  static void visit(auto& self, auto&& v) {
    v("epoch", self.epoch_);
    v("batch", self.batch_);
    v("step", self.step_);
    v("samples", self.samples_);
    v("right", self.right_);
    v("loss_sum", self.loss_sum_);
    v("best_epoch", self.best_epoch_);
    v("best_value", self.best_value_);
    v("history", self.history_);
  }

 private:
  /// The batches that are left of this epoch, a step for each `accumulate` of them.
  void train_epoch(Progress& progress) {
    Stopwatch waiting;
    double waited_from = waiting.seconds();
    for (auto&& batch : loader_.epoch(epoch_, batch_)) {
      data_seconds_ += waiting.seconds() - waited_from;
      if (batch_ % options_.accumulate == 0) optimizer_.zero_grad();
      add_gradients(std::move(batch.inputs), batch.targets);
      ++batch_;
      if (batch_ % options_.accumulate == 0 || batch_ == loader_.size()) {
        step();
        progress.update(samples_done(), progress_text());
        tell(FitEvent::At::step);
        if (stopped_) return;
      }
      waited_from = waiting.seconds();
    }
  }

  /// Forward, loss and backward of one batch.
  template <typename Targets>
  void add_gradients(Tensor<S> inputs, const Targets& targets) {
    const Index samples = inputs.dim(0);
    Tape<S> tape(random_, {.input_gradient = false});
    if (options_.observe) tape.observe(options_.observe);
    const Tensor<S> outputs = net_.forward(std::move(inputs), tape);
    auto loss = loss_(outputs, targets);
    loss_value_ = loss.value;
    if (!std::isfinite(loss.value)) {
      fail("fit", "expected a finite loss, got ", loss.value, " at step ", step_ + 1, " (epoch ", epoch_ + 1, ", batch ",
           batch_ + 1, ")");
    }
    const Index first = batch_ - batch_ % options_.accumulate;
    const Index share = std::min(options_.accumulate, loader_.size() - first);
    if (share > 1) loss.gradient.array() /= static_cast<S>(share);
    net_.backward(std::move(loss.gradient), tape);

    samples_ += samples;
    loss_sum_ += loss.value * static_cast<double>(samples);
    if constexpr (labelled) right_ += count_right(outputs, targets);
  }

  /// One step of the optimizer, and of what follows it.
  void step() {
    if (options_.max_norm > 0) gradient_norm_ = clip_grad_norm<S>(optimizer_.parameters(), options_.max_norm);
    optimizer_.step();
    ++step_;
    if (options_.schedule != nullptr && options_.schedule_every == Every::step) options_.schedule->step();
    if (options_.average != nullptr) options_.average->update(net_);
  }

  /// Measures, validates, remembers the best.
  void finish_epoch() {
    const double samples = static_cast<double>(std::max<Index>(samples_, 1));
    Measures row{{"epoch", static_cast<double>(epoch_ + 1)},
                 {"step", static_cast<double>(step_)},
                 {"lr", optimizer_.lr(0)},
                 {"loss", loss_sum_ / samples}};
    if (labelled) row.emplace_back("accuracy", static_cast<double>(right_) / samples);
    if (options_.validate) {
      for (auto& [name, value] : options_.validate(validated())) row.emplace_back("val_" + name, value);
    }
    const double value = monitored(row);
    history_.add(row);
    const bool better = options_.goal == Goal::min ? value < best_value_ - options_.min_delta
                                                   : value > best_value_ + options_.min_delta;
    if (best_epoch_ == 0 || std::isnan(best_value_) || better) {
      best_epoch_ = epoch_ + 1;
      best_value_ = value;
      if (best_) *best_ = validated();
    }
    if (options_.schedule != nullptr && options_.schedule_every == Every::epoch) options_.schedule->step(value);
    ++epoch_;
    batch_ = samples_ = right_ = 0;
    loss_sum_ = 0;
  }

  void tell(FitEvent::At at) {
    FitEvent event{at, epoch_, batch_, step_, loss_value_, gradient_norm_, history_, state_, options_.progress};
    for (const FitCallback& callback : options_.callbacks) callback(event);
    stopped_ = stopped_ || event.stop;
  }

  const Net& validated() const { return options_.average != nullptr ? options_.average->module : net_; }

  bool out_of_patience() const {
    return options_.patience > 0 && best_epoch_ > 0 && epoch_ - best_epoch_ >= options_.patience;
  }

  double monitored(const Measures& row) const {
    const auto found = std::find_if(row.begin(), row.end(), [&](const auto& measure) { return measure.first == monitor_; });
    if (found == row.end()) fail("fit", "expected to monitor something that is measured, got ", monitor_);
    return found->second;
  }

  Index samples_done() const { return epoch_ * loader_.samples() + samples_; }

  std::string progress_text() const {
    char text[96];
    std::snprintf(text, sizeof text, "epoch %ld of %ld  loss %.4f", static_cast<long>(epoch_ + 1),
                  static_cast<long>(options_.epochs), loss_value_);
    return text;
  }

  void check_options() const {
    const auto& o = options_;
    if (o.epochs < 0) fail("fit", "expected epochs of at least 0, got ", o.epochs);
    if (o.accumulate < 1) fail("fit", "expected accumulate of at least 1, got ", o.accumulate);
    if (!(o.max_norm >= 0)) fail("fit", "expected max_norm of at least 0, got ", o.max_norm);
    if (o.patience < 0) fail("fit", "expected patience of at least 0, got ", o.patience);
    if (!(o.min_delta >= 0)) fail("fit", "expected min_delta of at least 0, got ", o.min_delta);
    if (loader_.size() < 1) fail("fit", "expected a loader with at least one batch, got none");
  }

  /// A run that was resumed must fit the loader.
  void check_position() const {
    if (batch_ > loader_.size()) {
      fail("fit", "expected to go on within an epoch of ", loader_.size(), " batches, got batch ", batch_);
    }
    if (!history_.whole() || static_cast<Index>(history_.rows()) != epoch_) {
      fail("fit", "expected a history of ", epoch_, " epochs, got one of ", history_.rows());
    }
  }

  Net& net_;
  Optimizer<S>& optimizer_;
  const Loader& loader_;
  LossFunction& loss_;
  Random& random_;
  const FitOptions<Net>& options_;
  const std::string monitor_;
  State state_;

  // Where the run is; what visit shows.
  Index epoch_ = 0, batch_ = 0, step_ = 0;
  Index samples_ = 0, right_ = 0;  // of this epoch
  double loss_sum_ = 0;
  Index best_epoch_ = 0;
  double best_value_ = 0;
  std::optional<Net> best_;
  History history_;

  double loss_value_ = 0, gradient_norm_ = 0;
  bool stopped_ = false;
  Stopwatch watch_;
  double data_seconds_ = 0;
};

}  // namespace detail

/// Trains `net` for some epochs over the loader's batches: forward, loss, backward, step. What is trained, measured and
/// called is in FitOptions; all of it can be written out by hand with the same parts.
///
///     auto loss = [](const auto& outputs, const auto& targets) { return cross_entropy(outputs, targets); };
///     FitResult result = fit(net, optimizer, loader, loss, rng, {
///         .epochs = 8,
///         .schedule = &schedule,
///         .validate = [&](const auto& now) { return evaluate(now, test_loader, loss).measures(); },
///         .progress = stderr,
///     });
///
/// The history has the columns epoch, step, lr, loss, with labels as targets accuracy (of the predictions made while
/// training), and what `validate` returned with val_ in front of its names.
///
/// Throws Error for options without a meaning, and where a loss is not finite: the network is then as the step before
/// left it.
template <typename Net, typename Loader, typename LossFunction>
FitResult<Net> fit(Net& net, Optimizer<typename Net::Scalar>& optimizer, const Loader& loader, LossFunction&& loss,
                   Random& random, const FitOptions<Net>& options = {}) {
  return detail::Fit<Net, Loader, std::remove_reference_t<LossFunction>>(net, optimizer, loader, loss, random, options)
      .run();
}

}  // namespace residua::inline RESIDUA_ABI
