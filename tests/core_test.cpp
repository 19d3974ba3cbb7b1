// Shape, Random, Error, the tape, lists, and the identity of parameters.
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <numbers>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <residua/core/layer.hpp>

#include "errors.hpp"

namespace {

using namespace residua;

// --- shape and error -------------------------------------------------------------------------------------------------

TEST(Shape, KnowsItsSizes) {
  const Shape shape{8, 56, 40, 32};
  EXPECT_EQ(shape.rank(), 4);
  EXPECT_EQ(shape.size(), 8 * 56 * 40 * 32);
  EXPECT_EQ(shape[1], 56);
  EXPECT_EQ(shape[-1], 32);
  EXPECT_EQ(shape[-4], 8);
  EXPECT_EQ(shape.rows(), 8 * 56 * 40);
  EXPECT_EQ(shape.features(), 32);
  EXPECT_EQ(shape.with(-1, 5), (Shape{8, 56, 40, 5}));
  EXPECT_EQ(shape.part(1, 3), (Shape{56, 40}));
  EXPECT_EQ(Shape{}.size(), 1);
  EXPECT_EQ(Shape{}.rows(), 1);
  EXPECT_EQ(Shape{}.features(), 1);
  EXPECT_EQ((Shape{3, 0, 2}).size(), 0);
  EXPECT_NE((Shape{2, 3}), (Shape{2, 3, 1}));
}

TEST(Shape, IsWrittenInBrackets) {
  std::ostringstream text;
  text << Shape{8, 56, 56, 32} << Shape{} << Shape{7};
  EXPECT_EQ(text.str(), "[8, 56, 56, 32][][7]");
}

TEST(Shape, RefusesWhatIsNoShape) {
  EXPECT_EQ(message([] { Shape{2, -3}; }), "Shape: expected sizes of at least 0, got -3 at axis 1");
  EXPECT_EQ(message([] { Shape{1, 1, 1, 1, 1, 1, 1, 1, 1}; }), "Shape: expected at most 8 axes, got 9");
  EXPECT_EQ(message([] { (Shape{2, 3})[2]; }), "Shape: axis 2 is outside of [2, 3]");
  EXPECT_EQ(message([] { (Shape{2, 3})[-3]; }), "Shape: axis -3 is outside of [2, 3]");
  const Index large = Index{1} << 40;
  EXPECT_THROW((Shape{large, large}), Error);
  EXPECT_THROW((Shape{large, 0, large}), Error);  // no order of multiplication overflows
  EXPECT_THROW(Shape{std::numeric_limits<Index>::max()}, Error);
  EXPECT_THROW(Shape{std::numeric_limits<Index>::min()}, Error);  // what NaN becomes as a size on x86
}

TEST(Error, NamesPlaceRuleAndValue) {
  EXPECT_EQ(message([] { fail("place", "expected ", 3, ", got ", Shape{2}); }), "place: expected 3, got [2]");
}

// --- random ----------------------------------------------------------------------------------------------------------

/// Philox 4×32-10 as in the paper, for any counter and key.
std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> c, std::array<std::uint32_t, 2> k) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53} * c[0], b = std::uint64_t{0xCD9E8D57} * c[2];
    c = {static_cast<std::uint32_t>(b >> 32) ^ c[1] ^ k[0], static_cast<std::uint32_t>(b),
         static_cast<std::uint32_t>(a >> 32) ^ c[3] ^ k[1], static_cast<std::uint32_t>(a)};
    k = {k[0] + 0x9E3779B9, k[1] + 0xBB67AE85};
  }
  return c;
}

TEST(Random, ReferenceGivesTheKnownAnswers) {  // from Random123's kat_vectors
  using Four = std::array<std::uint32_t, 4>;
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}), (Four{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const std::uint32_t ones = 0xffffffff;
  EXPECT_EQ(philox({ones, ones, ones, ones}, {ones, ones}), (Four{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Four{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Random, BlocksArePhilox) {
  EXPECT_EQ(Random(0).block(0), philox({0, 0, 0, 0}, {0, 0}));
  for (const std::uint64_t key : {std::uint64_t{0}, std::uint64_t{42}, ~std::uint64_t{0}, std::uint64_t{0x299f31d0a4093822}}) {
    for (const std::uint64_t at : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{0xffffffff}, std::uint64_t{1} << 32, ~std::uint64_t{0}}) {
      const auto low = [](std::uint64_t x) { return static_cast<std::uint32_t>(x); };
      EXPECT_EQ(Random(key).block(at), philox({low(at), low(at >> 32), 0, 0}, {low(key), low(key >> 32)}));
    }
  }
}

TEST(Random, SequenceIsAFunctionOfTheSeed) {
  Random a(42), b(42), c(43);
  for (int i = 0; i < 100; ++i) {
    const auto drawn = a.bits();
    EXPECT_EQ(drawn, b.bits());
    EXPECT_NE(drawn, c.bits());
  }
}

TEST(Random, SplitDependsOnKeysAlone) {
  Random a(42);
  Random before = a.split(7);
  a.bits();
  a.normal();
  Random after = a.split(7);
  std::set<std::uint64_t> seen;
  for (int i = 0; i < 100; ++i) {
    const auto drawn = before.bits();
    EXPECT_EQ(drawn, after.bits());
    seen.insert(drawn);
  }
  Random parent(42);
  for (int i = 0; i < 100; ++i) seen.insert(parent.bits());
  for (std::uint64_t key = 0; key < 1000; ++key) seen.insert(parent.split(key).bits());  // contains split(7)'s first
  EXPECT_EQ(seen.size(), 100u + 100u + 999u);
}

TEST(Random, ForksDiffer) {
  Random a(42), b(42);
  std::set<std::uint64_t> seen;
  for (int i = 0; i < 100; ++i) {
    const auto drawn = a.fork().bits();
    EXPECT_EQ(drawn, b.fork().bits());
    seen.insert(drawn);
  }
  EXPECT_EQ(seen.size(), 100u);
}

TEST(Random, UniformHasItsMoments) {
  Random random(1);
  const int n = 200000;
  double sum = 0, squares = 0, least = 1, most = 0;
  for (int i = 0; i < n; ++i) {
    const double u = random.uniform();
    sum += u;
    squares += u * u;
    least = std::min(least, u);
    most = std::max(most, u);
  }
  EXPECT_GE(least, 0);
  EXPECT_LT(most, 1);
  EXPECT_NEAR(sum / n, 0.5, 5 * std::sqrt(1.0 / 12 / n));
  EXPECT_NEAR(squares / n, 1.0 / 3, 5 * std::sqrt(4.0 / 45 / n));
}

TEST(Random, NormalHasItsMoments) {
  Random random(2);
  const int n = 200000;
  double sums[5] = {};
  int inside = 0;
  for (int i = 0; i < n; ++i) {
    const double x = random.normal();
    ASSERT_TRUE(std::isfinite(x));
    for (int power = 1; power <= 4; ++power) sums[power] += std::pow(x, power);
    inside += std::abs(x) < 1;
  }
  EXPECT_NEAR(sums[1] / n, 0, 5 * std::sqrt(1.0 / n));
  EXPECT_NEAR(sums[2] / n, 1, 5 * std::sqrt(2.0 / n));
  EXPECT_NEAR(sums[3] / n, 0, 5 * std::sqrt(15.0 / n));
  EXPECT_NEAR(sums[4] / n, 3, 5 * std::sqrt(96.0 / n));
  EXPECT_NEAR(static_cast<double>(inside) / n, std::erf(1 / std::numbers::sqrt2), 5 * std::sqrt(0.22 / n));
  Random a(3), b(3);
  EXPECT_EQ(a.normal(5, 2), 5 + 2 * b.normal());
}

TEST(Random, BelowIsUniform) {
  Random random(3);
  const int n = 70000;
  int counts[7] = {};
  for (int i = 0; i < n; ++i) ++counts[random.below(7)];
  double chi2 = 0;
  for (const int count : counts) chi2 += std::pow(count - n / 7.0, 2) / (n / 7.0);
  EXPECT_LT(chi2, 27.9);  // 6 degrees of freedom, p = 1e-4
  for (int i = 0; i < 100; ++i) EXPECT_EQ(random.below(1), 0);
  const std::int64_t large = (std::int64_t{1} << 62) + 1;
  for (int i = 0; i < 100; ++i) EXPECT_LT(random.below(large), large);
  EXPECT_EQ(message([&] { random.below(0); }), "Random: expected a count of at least 1 to choose from, got 0");
  EXPECT_THROW(random.below(-1), Error);
}

TEST(Random, ChanceIsAsLikelyAsAsked) {
  Random random(4);
  int hits = 0;
  for (int i = 0; i < 100000; ++i) hits += random.chance(0.3);
  EXPECT_NEAR(hits / 1e5, 0.3, 5 * std::sqrt(0.21 / 1e5));
  EXPECT_FALSE(random.chance(0));
  EXPECT_TRUE(random.chance(1));
}

// --- the tape --------------------------------------------------------------------------------------------------------

TEST(Tape, GivesBackWhatWasPushed) {
  Random random(1);
  Tape<float> tape(random);
  EXPECT_TRUE(tape.recording());
  EXPECT_TRUE(tape.training());
  tape.push(Tensor<float>(Shape{2}, 3.0f));
  tape.push(std::string("a"), 2, std::vector<int>{1, 2});
  const auto [text, number, list] = tape.pop<std::string, int, std::vector<int>>();
  EXPECT_EQ(text, "a");
  EXPECT_EQ(number, 2);
  EXPECT_EQ(list.size(), 2u);
  EXPECT_EQ(tape.pop<Tensor<float>>(), Tensor<float>(Shape{2}, 3.0f));
  EXPECT_TRUE(tape.empty());
}

TEST(Tape, KeepsAnyCopyableType) {
  struct NoDefault {
    const int value;
    explicit NoDefault(int v) : value(v) {}
  };
  Random random(1);
  Tape<float> tape(random, {.input_gradient = false});
  tape.push_for(false, NoDefault(4));
  tape.push(NoDefault(5));
  EXPECT_EQ(tape.pop<NoDefault>().value, 5);
  tape.pop<NoDefault>();
  tape.push();
  tape.pop<>();
  EXPECT_TRUE(tape.empty());
}

TEST(Tape, KeepsNoMemoryWhereNoGradientIsWanted) {
  struct Explicit {
    std::vector<int> numbers;
    explicit Explicit(std::size_t count = 0) : numbers(count) {}
  };
  Random random(1);
  Tape<float> tape(random, {.input_gradient = false});
  tape.push_for(false, std::vector<int>(100));
  tape.push_for(false, Explicit(100));
  tape.push_for(false, Explicit(100), std::vector<int>(100));
  EXPECT_EQ(std::get<1>(tape.pop<Explicit, std::vector<int>>()).capacity(), 0u);
  EXPECT_EQ(tape.pop<Explicit>().numbers.capacity(), 0u);
  EXPECT_EQ(tape.pop<std::vector<int>>().capacity(), 0u);
}

TEST(Tape, DropsWhatIsPushedWhenItDoesNotRecord) {
  Random random(1);
  Tape<float> predicting, recomputing(random, {.record = false});
  EXPECT_FALSE(predicting.training());
  EXPECT_TRUE(recomputing.training());
  const Tensor<float> x(Shape{2});
  for (auto* tape : {&predicting, &recomputing}) {
    tape->push(x);
    EXPECT_TRUE(tape->empty());
    EXPECT_TRUE(x.unique());
    EXPECT_THROW(tape->pop<Tensor<float>>(), Error);
  }
  EXPECT_EQ(message([&] { predicting.random(); }), "Tape: expected a tape made with a Random, got one without");
  EXPECT_EQ(&recomputing.random(), &random);
}

TEST(Tape, PopsOnlyWhatTheSameLayerPushed) {
  Random random(1);
  Tape<float> tape(random);
  EXPECT_EQ(message([&] { tape.pop<int>(); }), "Tape: expected a recorded forward before backward, got an empty tape");
  {
    auto outer = tape.scope("layer1");
    auto inner = tape.scope("conv");
    tape.push(1);
  }
  const std::string other = "expected to find on the tape what this layer's forward pushed, got what another one pushed";
  EXPECT_EQ(message([&] { tape.pop<int>(); }), "Tape: " + other);
  auto outer = tape.scope("layer1");
  {
    auto wrong = tape.scope("bn");
    EXPECT_EQ(message([&] { tape.pop<int>(); }), "layer1.bn: " + other);
  }
  auto inner = tape.scope("conv");
  EXPECT_EQ(message([&] { tape.pop<double>(); }), "layer1.conv: " + other);
  EXPECT_EQ(tape.pop<int>(), 1);
}

TEST(Tape, ScopeLeftByAnExceptionForgetsWhatItPushed) {
  Random random(1);
  Tape<float> tape(random);
  tape.push(1);
  try {
    auto scope = tape.scope("a");
    tape.push(2);
    throw 3;
  } catch (int) {
  }
  EXPECT_EQ(tape.pop<int>(), 1);
  EXPECT_TRUE(tape.empty());
}

TEST(Tape, UpdatesRunAtTheEndInForwardOrder) {
  Random random(1);
  Tape<float> tape(random);
  std::vector<int> order;
  {
    auto scope = tape.scope("");
    tape.push(1);
    tape.push(2);
  }
  {
    auto scope = tape.scope("");
    tape.on_success([&, mine = tape.pop<int>()] { order.push_back(mine); });
    tape.on_success([&, mine = tape.pop<int>()] { order.push_back(mine); });
    EXPECT_TRUE(order.empty());
  }
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
}

TEST(Tape, UpdatesOfOneLayerRunInTheirOwnOrder) {
  Random random(1);
  Tape<float> tape(random);
  std::string order;
  tape.push(1);
  tape.push(2);
  {
    auto scope = tape.scope("");
    for (const char layer : {'b', 'a'}) {
      tape.pop<int>();
      for (const char update : {'1', '2', '3'}) tape.on_success([&order, layer, update] { (order += layer) += update; });
    }
  }
  EXPECT_EQ(order, "a1a2a3b1b2b3");
}

TEST(Tape, ClearForgetsEverything) {
  Random random(1);
  Tape<float> tape(random);
  const Tensor<float> x(Shape{2});
  tape.push(x);
  EXPECT_FALSE(x.unique());
  tape.clear();
  EXPECT_TRUE(x.unique());
  EXPECT_TRUE(tape.empty());
}

// --- lists -----------------------------------------------------------------------------------------------------------

/// Counts how many there are, and throws where the last of a number of copies is made.
struct Counted {
  static inline int alive = 0, copies_left = -1;
  int value;

  explicit Counted(int v) : value(v) { ++alive; }
  Counted(const Counted& other) : value(other.value) {
    if (copies_left-- == 0) throw std::runtime_error("no copy");
    ++alive;
  }
  Counted(Counted&& other) noexcept : value(other.value) { ++alive; }
  Counted& operator=(const Counted&) = delete;
  ~Counted() { --alive; }
};

TEST(List, GrowsCopiesAndMovesAsAVectorDoes) {
  {
    detail::List<Counted> list;
    EXPECT_TRUE(list.empty());
    for (int i = 0; i < 127; ++i) list.push_back(Counted(i));
    list.push_back(list[0]);  // where there is no more room
    EXPECT_EQ(list.size(), 128);
    EXPECT_EQ(list.back().value, 0);
    list.pop_back();
    EXPECT_EQ(list.back().value, 126);
    EXPECT_EQ(Counted::alive, 127);

    detail::List<Counted> copy = list;
    copy[7].value = -1;
    EXPECT_EQ(list[7].value, 7);
    EXPECT_EQ(Counted::alive, 2 * 127);
    Counted::copies_left = 50;
    EXPECT_THROW(copy = list, std::runtime_error);
    Counted::copies_left = -1;
    EXPECT_EQ(copy[7].value, -1);
    EXPECT_EQ(Counted::alive, 2 * 127);

    detail::List<Counted> moved = std::move(list);
    EXPECT_TRUE(list.empty());
    int expected = 0;
    for (const Counted& counted : moved) EXPECT_EQ(counted.value, expected++);
    EXPECT_EQ(expected, 127);
    list.push_back(Counted(5));
    moved = list;
    EXPECT_EQ(moved.size(), 1);
    EXPECT_EQ(moved[0].value, 5);
    EXPECT_EQ(Counted::alive, 127 + 2);
    copy.clear();
    EXPECT_EQ(Counted::alive, 2);
  }
  EXPECT_EQ(Counted::alive, 0);
}

// --- the identity of parameters --------------------------------------------------------------------------------------

Parameter<float> parameter(float value) { return Parameter<float>(Tensor<float>(Shape{3}, value)); }

TEST(Parameter, CopyIsSomebodyElse) {
  Parameter<float> a = parameter(1);
  a.add_gradient(Tensor<float>(Shape{3}, 2.0f));
  Parameter<float> b = a;
  EXPECT_FALSE(a.handle() == b.handle());
  EXPECT_EQ(b.value, a.value);
  EXPECT_TRUE(b.grad.empty());
  b.handle()->value.array() = 5;
  EXPECT_EQ(a.value(0), 1);
}

TEST(Parameter, AssignmentKeepsIdentity) {
  Parameter<float> a = parameter(1), b = parameter(2);
  const auto handle = a.handle();
  a = b;
  EXPECT_TRUE(a.handle() == handle);
  EXPECT_EQ(handle->value(0), 2);
  EXPECT_EQ(b.value(0), 2);
  a = parameter(3);
  EXPECT_TRUE(a.handle() == handle);
  EXPECT_EQ(handle->value(0), 3);
  Parameter<float>& self = a;
  a = self;
  a = std::move(self);
  EXPECT_EQ(handle->value(0), 3);
}

TEST(Parameter, MoveTakesIdentityAlong) {
  Parameter<float> a = parameter(1);
  const auto handle = a.handle();
  Parameter<float> b = std::move(a);
  EXPECT_TRUE(b.handle() == handle);
  b.value.array() = 4;
  EXPECT_EQ(handle->value(0), 4);
}

TEST(Parameter, AssignedAfterAMoveHasAnIdentity) {
  Parameter<float> a = parameter(1);
  const Parameter<float> b = std::move(a), c = parameter(2);
  a = c;
  EXPECT_EQ(a.handle()->value(0), 2);
  EXPECT_FALSE(a.handle() == c.handle());
  EXPECT_FALSE(a.handle() == b.handle());
  a.value(0) = 9;
  EXPECT_EQ(a.handle()->value(0), 9);
  EXPECT_EQ(c.value(0), 2);
}

TEST(Parameter, SwapCarriesHandlesAlong) {
  Parameter<float> a = parameter(1), b = parameter(2);
  const auto of_a = a.handle(), of_b = b.handle();
  std::swap(a, b);
  EXPECT_TRUE(a.handle() == of_b);
  EXPECT_TRUE(b.handle() == of_a);
  EXPECT_EQ(of_a->value(0), 1);
  EXPECT_EQ(of_b->value(0), 2);
}

TEST(Parameter, HandleOutlivesItsOwner) {
  auto owner = std::make_unique<Parameter<float>>(parameter(1));
  const auto handle = owner->handle();
  owner->add_gradient(Tensor<float>(Shape{3}, 2.0f));
  owner.reset();
  EXPECT_EQ(handle->value, Tensor<float>(Shape{3}, 1));
  EXPECT_EQ(handle->grad, Tensor<float>(Shape{3}, 2));
}

TEST(Parameter, VectorsMayMoveThem) {
  std::vector<Parameter<float>> list;
  std::vector<ParameterHandle<float>> handles;
  for (int i = 0; i < 40; ++i) {
    list.push_back(parameter(static_cast<float>(i)));
    handles.push_back(list.back().handle());
  }
  for (std::size_t i = 0; i < list.size(); ++i) {
    EXPECT_EQ(&*handles[i], &list[i]);
    EXPECT_EQ(handles[i]->value(0), static_cast<float>(i));
  }
}

TEST(Parameter, GradientIsAllocatedWhenFirstAddedTo) {
  Parameter<double> p(Tensor<double>(Shape{2, 3}));
  EXPECT_TRUE(p.grad.empty());
  p.add_gradient(Eigen::ArrayXXd::Constant(2, 3, 1.5));
  EXPECT_EQ(p.grad, Tensor<double>(Shape{2, 3}, 1.5));
  p.add_gradient(Tensor<double>(Shape{2, 3}, 1.0));
  p.add_gradient(Eigen::ArrayXXd::Constant(2, 3, 0.5));
  EXPECT_EQ(p.grad, Tensor<double>(Shape{2, 3}, 3.0));
  EXPECT_THROW(p.add_gradient(Tensor<double>(Shape{3, 2})), Error);
  EXPECT_THROW(p.add_gradient(Eigen::ArrayXXd::Constant(2, 2, 0.5)), Error);
  EXPECT_EQ(p.grad, Tensor<double>(Shape{2, 3}, 3.0));
}

TEST(Parameter, FrozenTakesNoGradient) {
  Parameter<double> p(Tensor<double>(Shape{2}));
  p.requires_grad = false;
  p.add_gradient(Tensor<double>(Shape{2}, 1.0));
  p.add_gradient(Eigen::ArrayXd::Constant(2, 0.5));
  EXPECT_TRUE(p.grad.empty());
  EXPECT_FALSE(p.trainable());
  EXPECT_FALSE(Parameter<double>().trainable());
}

TEST(Parameter, GradientGivenAwayIsNotWrittenTo) {
  Parameter<double> p(Tensor<double>(Shape{2}));
  p.add_gradient(Tensor<double>(Shape{2}, 1.0));
  const Tensor<double> kept = p.grad;
  p.add_gradient(Tensor<double>(Shape{2}, 1.0));
  p.add_gradient(Eigen::ArrayXd::Constant(2, 1.0));
  EXPECT_EQ(kept, Tensor<double>(Shape{2}, 1.0));
  EXPECT_EQ(p.grad, Tensor<double>(Shape{2}, 3.0));
}

}  // namespace
