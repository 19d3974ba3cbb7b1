// Tape: what a forward pass leaves for the backward pass.
#pragma once

#include <concepts>
#include <cstdint>
#include <exception>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <tuple>
#include <typeinfo>
#include <utility>

#include <residua/core/list.hpp>
#include <residua/core/memory.hpp>
#include <residua/core/random.hpp>
#include <residua/core/record.hpp>
#include <residua/core/tensor.hpp>

namespace residua::inline RESIDUA_ABI {

enum class Mode {
  train,     ///< BatchNorm uses the batch's statistics, Dropout drops
  evaluate,  ///< BatchNorm uses its running statistics, Dropout does nothing
};

struct TapeOptions {
  Mode mode = Mode::train;
  bool record = true;          ///< keep what backward needs
  bool input_gradient = true;  ///< the gradient by the network's input is wanted; without it the first layers skip theirs;
                               ///< for a further forward on the same tape, say so again with set_input_gradient(false)
  bool update_statistics = false;  ///< running statistics follow forward alone, for a tape that will see no backward
};

/// What an observer sees after each named layer's forward and backward.
template <typename S>
struct Observation {
  std::string path;         ///< the layer's path, like layer2.0.conv1
  bool backward;            ///< false: `output` is the activation; true: `output` is the gradient by the layer's input
  const Shape& input;       ///< shape of what went in
  const Tensor<S>& output;  ///< what came out
  const Tensor<S>& output_gradient;  ///< of a backward: what went in; empty where nobody wants it
  Index multiply_adds;      ///< of a forward, where the layer counts them
  std::int64_t memory;      ///< bytes by which the layer changed what tensors hold
};

/// Which numbers a ReLU stopped: a bit of each, as kernels/relu.hpp has them.
struct ReluMask {
  Index run = 0;  ///< so many numbers have their bits together
  Tensor<std::uint8_t> bits;
};

/// What a block does next to the result of a layer inside it:  relu?(result + sum?).
template <typename S>
struct Finish {
  Tensor<S>* sum = nullptr;  ///< the layer may take its memory
  bool relu = false;
  bool done = false;  ///< the layer has done it
  ReluMask stopped = {};  ///< and what its ReLU stopped, when the tape records
};

namespace detail {

/// The type of one value, or of a tuple of any other number.
template <typename... T>
struct OneOrTuple {
  using Type = std::tuple<T...>;
};
template <typename T>
struct OneOrTuple<T> {
  using Type = T;
};

/// A variable has another value while this lives.
template <typename T>
class Meanwhile {
 public:
  Meanwhile(T& variable, T value) : variable_(variable), before_(std::exchange(variable, std::move(value))) {}
  Meanwhile(const Meanwhile&) = delete;
  Meanwhile& operator=(const Meanwhile&) = delete;
  ~Meanwhile() { variable_ = std::move(before_); }

 private:
  T& variable_;
  T before_;
};

}  // namespace detail

/// Last in, first out: a layer's forward pushes what its backward will pop. A tape belongs to one thread; a network may
/// be used with many tapes at once.
///
///     Tape<float> tape(rng);                                  // a training step
///     Tape<float> tape(rng, {.mode = Mode::evaluate});        // gradients of the network as it predicts
///     Tape<float> tape;                                       // prediction: evaluates, keeps nothing
template <typename S>
class Tape {
 public:
  Tape() : Tape(nullptr, {.mode = Mode::evaluate, .record = false}) {}

  /// Draws from `random`, which must outlive the tape.
  explicit Tape(Random& random, TapeOptions options = {}) : Tape(&random, options) {}

  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  bool training() const { return options_.mode == Mode::train; }
  bool recording() const { return options_.record; }

  /// The generator handed in. Throws Error when there is none.
  Random& random() {
    if (random_ == nullptr) fail(place("Tape"), "expected a tape made with a Random, got one without");
    return *random_;
  }

  // --- recording -----------------------------------------------------------------------------------------------------

  /// Keeps values for backward; drops them when the tape does not record. One call is matched by one pop.
  template <typename... T>
  void push(T... values) {
    push_for(true, std::move(values)...);
  }

  /// As push, for a layer that says whether it has `trainable` parameters of its own. If it has none, and no gradient by
  /// its input is wanted, nothing is kept, and its backward will find output_gradient() false.
  template <typename... T>
  void push_for(bool trainable, T... values) {
    const bool wanted_before = gradient_wanted_;
    gradient_wanted_ = wanted_before || trainable;
    const std::uint64_t number = pushed_++;
    if (!recording()) return;
    Kept<T...> kept(std::move(values)...);
    if constexpr (std::semiregular<Kept<T...>>) {
      if (!gradient_wanted_) kept = Kept<T...>();
    }
    entries_.push_back({detail::Record::of(std::move(kept)), number, place_, wanted_before, gradient_wanted_});
  }

  /// As push, for what backward needs whether or not a gradient is wanted, such as statistics to fold in.
  template <typename... T>
  void keep(T... values) {
    const std::uint64_t number = pushed_++;
    if (!recording()) return;
    entries_.push_back({detail::Record::of(Kept<T...>(std::move(values)...)), number, place_, gradient_wanted_,
                        gradient_wanted_});
  }

  /// Takes back what the same layer's forward pushed last: one value, or a tuple of several.
  /// Throws Error when the tape is empty, or when the last push was another layer's or of other types.
  template <typename... T>
  auto pop() {
    if (entries_.empty()) fail(place("Tape"), "expected a recorded forward before backward, got an empty tape");
    Entry& last = entries_.back();
    if (last.place != place_ || last.record.type() != typeid(Kept<T...>)) {
      fail(place("Tape"), "expected to find on the tape what this layer's forward pushed, got what another one pushed");
    }
    auto kept = std::move(last.record.template as<Kept<T...>>());
    gradient_wanted_ = last.input_gradient;
    output_gradient_ = last.output_gradient;
    popped_ = last.number;
    entries_.pop_back();
    settle();
    return kept;
  }

  /// In forward: whether the gradient by the tensor now flowing will be wanted. After a pop in backward: whether the
  /// gradient by this layer's input is; where it is not, backward may return an empty tensor.
  bool input_gradient() const { return gradient_wanted_; }

  /// For what forks, or starts again: whether the gradient by the tensor handed on next will be wanted.
  void set_input_gradient(bool wanted) { gradient_wanted_ = wanted; }

  /// After a pop: whether anybody wants what this layer's backward computes. Where not, dy is not to be read.
  bool output_gradient() const { return output_gradient_; }

  /// Runs `update` when the backward passes of everything recorded are done: in the order of the forward passes, and not
  /// at all when one of them throws. So do running statistics change.
  template <typename F>
  void on_success(F update) {
    updates_.push_back({updates_in_forward() ? pushed_++ : popped_, detail::Record::of(std::move(update))});
    settle();
  }

  /// Forgets everything recorded.
  void clear() {
    while (!entries_.empty()) entries_.pop_back();
    updates_.clear();
    gradient_wanted_ = options_.input_gradient;
  }

  bool empty() const { return entries_.empty(); }

  /// Whether a layer with running statistics calls on_success in forward instead of in backward.
  bool updates_in_forward() const { return options_.update_statistics; }

  // --- running a forward again ---------------------------------------------------------------------------------------

  /// Where a forward begins: all that it depends on beside its input.
  struct Start {
    Random random;
    std::uint64_t pushed;
    bool input_gradient;
  };
  Start start() { return {random(), pushed_, gradient_wanted_}; }

  /// Runs a forward of which nothing is kept.
  template <typename F>
  auto without_recording(F&& forward) {
    const detail::Meanwhile record(options_.record, false);
    return forward();
  }

  /// Runs a forward, recording, as it ran at its start: it draws the same numbers, and what waits for on_success takes
  /// the place that the first run has in the order of the forward passes. The observer does not see it a second time.
  template <typename F>
  auto again(const Start& start, F&& forward) {
    const detail::Meanwhile drawn(random(), start.random);
    const detail::Meanwhile number(pushed_, start.pushed);
    const detail::Meanwhile unseen(unseen_, true);
    gradient_wanted_ = start.input_gradient;
    return forward();
  }

  // --- what comes next -----------------------------------------------------------------------------------------------

  /// What the layer that runs may do to its result as it writes it, saying so by `done`; null where there is nothing.
  /// Offered to layers that have `using Finishes = TheirOwnType;`, to them alone. Their backward stays that of their own
  /// result: the block itself passes the gradient through its ReLU and to its sum. A layer that does the ReLU while the tape
  /// records fills `stopped`, or leaves `done` as it is.
  Finish<S>* finish() const { return finish_; }

  /// While the result lives, finish() is this; null takes an offer away.
  [[nodiscard]] detail::Meanwhile<Finish<S>*> finish_with(Finish<S>* finish) {
    return {finish_, observed() ? nullptr : finish};
  }

  // --- where we are --------------------------------------------------------------------------------------------------

  /// Enters a layer by name for the length of a block; composites open one around each child. The empty name adds
  /// nothing to the path. A forward that throws leaves the tape as it was when the scope was entered.
  class Scope {
   public:
    Scope(Tape& tape, std::string_view name)
        : tape_(tape), outer_(tape.scope_), name_(name), entries_(tape.entries_.size()),
          updates_(tape.updates_.size()), place_(tape.place_), wanted_(tape.gradient_wanted_),
          exceptions_(std::uncaught_exceptions()) {
      tape.scope_ = this;
      ++tape.depth_;
      if (!name.empty()) tape.place_ = tape.place_ * 0x9E3779B97F4A7C15u + std::hash<std::string_view>()(name);
    }
    ~Scope() noexcept(false) {
      tape_.scope_ = outer_;
      tape_.place_ = place_;
      --tape_.depth_;
      if (std::uncaught_exceptions() > exceptions_) {
        while (tape_.entries_.size() > entries_) tape_.entries_.pop_back();
        while (tape_.updates_.size() > updates_) tape_.updates_.pop_back();
        tape_.gradient_wanted_ = wanted_;
      } else {
        tape_.settle();
      }
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    friend class Tape;
    Tape& tape_;
    Scope* outer_;
    std::string_view name_;
    Index entries_, updates_;
    std::uint64_t place_;
    bool wanted_;
    int exceptions_;
  };

  [[nodiscard]] Scope scope(std::string_view name) { return Scope(*this, name); }
  template <std::same_as<std::string> Temporary>
  Scope scope(Temporary&& name) = delete;  // the scope keeps the name's address

  /// The path of the layer that is running, or `otherwise` at the top.
  [[gnu::cold]] std::string place(std::string_view otherwise) const {
    std::string path;
    for (const Scope* scope = scope_; scope != nullptr; scope = scope->outer_) {
      if (!scope->name_.empty() && !path.empty()) path.insert(0, 1, '.');
      path.insert(0, scope->name_);
    }
    if (path.empty()) path = otherwise;
    return path;
  }

  /// Throws Error("place: parts…"); `layer` is the name used at the top.
  template <typename... Parts>
  [[noreturn, gnu::cold]] void fail(std::string_view layer, const Parts&... parts) const {
    residua::fail(place(layer), parts...);
  }

  // --- watching ------------------------------------------------------------------------------------------------------

  /// Calls `f` after each named layer's forward and backward. A tape without an observer pays nothing for it.
  void observe(std::function<void(const Observation<S>&)> f) { observer_ = std::move(f); }

  bool observed() const { return observer_ && !unseen_; }
  void report(const Observation<S>& seen) { observer_(seen); }

 private:
  /// What one push keeps: the value, or a tuple of several.
  template <typename... T>
  using Kept = typename detail::OneOrTuple<T...>::Type;

  struct Entry {
    detail::Record record;
    std::uint64_t number, place;
    bool input_gradient, output_gradient;
  };
  struct Update {
    std::uint64_t number;  // of the forward's entry
    detail::Record run;
  };

  Tape(Random* random, TapeOptions options)
      : random_(random), options_(options), gradient_wanted_(options.input_gradient) {}

  /// Runs the updates, in the order of the forward passes, once nothing recorded is left and no layer is running.
  void settle() {
    if (updates_.empty() || !entries_.empty() || depth_ > 0) return;
    auto updates = std::exchange(updates_, {});
    for (Index i = 0; i < updates.size(); ++i) {
      Update* next = updates.begin();  // the first of those with the least number
      for (Update& update : updates) next = update.number < next->number ? &update : next;
      next->run();
      next->number = std::numeric_limits<std::uint64_t>::max();
    }
  }

  Random* random_;
  TapeOptions options_;
  bool gradient_wanted_;
  bool output_gradient_ = true;
  detail::List<Entry> entries_;
  detail::List<Update> updates_;
  std::uint64_t pushed_ = 0, popped_ = 0;  // pushes so far, kept or not; the number of the entry taken back last
  Scope* scope_ = nullptr;
  std::uint64_t place_ = 0;
  int depth_ = 0;
  std::function<void(const Observation<S>&)> observer_;
  bool unseen_ = false;  // by the observer
  Finish<S>* finish_ = nullptr;
};

}  // namespace residua::inline RESIDUA_ABI
