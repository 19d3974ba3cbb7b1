// summary: what a network is made of, layer by layer.
#pragma once

#include <algorithm>
#include <map>
#include <ostream>
#include <sstream>
#include <string>
#include <vector>

#include <residua/core/layer.hpp>
#include <residua/train/table.hpp>

namespace residua::inline RESIDUA_ABI {

/// What summary() returns; written to a stream it is a table.
struct Summary {
  struct Row {
    std::string path = "", type = "";
    Shape output = {};
    Index parameters = 0;          ///< numbers, trainable or not
    Index multiply_adds = 0;       ///< of forward
    std::int64_t memory = 0;       ///< bytes that forward added to what is held
  };
  std::vector<Row> rows;           ///< in the order of the forward pass
  Shape input;
  Index parameters = 0, trainable_parameters = 0, multiply_adds = 0;
  std::int64_t memory = 0;         ///< bytes held for backward when forward has ended, the output included

  friend std::ostream& operator<<(std::ostream& out, const Summary& s);
};

namespace detail {

inline std::string grouped(Index number) {
  std::string text = std::to_string(number);
  for (Index at = static_cast<Index>(text.size()) - 3; at > 0; at -= 3) {
    text.insert(static_cast<std::size_t>(at), 1, ',');  // not ",", at which g++ 12 warns falsely (GCC bug 105651)
  }
  return text;
}

inline std::string mebibytes(std::int64_t bytes) {
  std::ostringstream text;
  text.precision(2);
  text << std::fixed << static_cast<double>(bytes) / (1 << 20) << " MiB";
  return text.str();
}

inline std::string text_of(const Shape& shape) {
  std::ostringstream text;
  text << shape;
  return text.str();
}

/// Finds the types of layers and the parameters below them.
template <typename S>
struct SummaryVisitor : Visitor<S> {
  std::map<std::string, std::string> types;
  std::vector<std::pair<std::string, Index>> parameters;
  Index trainable = 0;

  void layer(const std::string& path, const std::type_info& type, void*) override {
    types.emplace(path, short_name(type));  // the outermost of several at one path
  }
  void parameter(const std::string& path, Parameter<S>& p) override {
    parameters.emplace_back(path, p.value.size());
    if (p.requires_grad) trainable += p.value.size();
  }
};

inline bool is_inside(const std::string& path, const std::string& outer) {
  return outer.empty() || (path.size() > outer.size() && path.compare(0, outer.size(), outer) == 0 && path[outer.size()] == '.');
}

}  // namespace detail

/// The familiar table: for each innermost layer its path, type, output shape, parameters, multiply-adds and the memory it
/// adds to what backward needs; and the totals. Runs one recorded forward on zeros of `input` (a whole batch's shape);
/// nothing in the network changes. Memory is right when no other thread computes at the same time.
///
///     std::cout << summary(net, {1, 32, 32, 3});
template <typename Net, typename S = typename Net::Scalar>
Summary summary(const Net& net, const Shape& input) {
  Summary result;
  result.input = input;
  detail::SummaryVisitor<S> visitor;
  walk<S>(net, visitor);

  Random random(0);
  Tensor<S> x(input);
  const std::size_t before = memory_statistics().live;
  Tape<S> tape(random, {.mode = Mode::evaluate});
  tape.observe([&](const Observation<S>& seen) {
    // A block reports after the layers inside it, which have told everything.
    const bool composite = std::any_of(result.rows.begin(), result.rows.end(), [&](const Summary::Row& row) {
      return detail::is_inside(row.path, seen.path);
    });
    if (composite) return;
    auto row = std::find_if(result.rows.begin(), result.rows.end(), [&](auto& r) { return r.path == seen.path; });
    if (row == result.rows.end()) row = result.rows.insert(row, {.path = seen.path, .type = visitor.types[seen.path]});
    row->output = seen.output.shape();
    row->multiply_adds += seen.multiply_adds;
    row->memory += std::max<std::int64_t>(0, seen.memory);
  });
  const Tensor<S> y = net.forward(std::move(x), tape);
  result.memory = std::max<std::int64_t>(0, static_cast<std::int64_t>(memory_statistics().live - before));
  if (result.rows.empty()) {
    result.rows.push_back({.path = "", .type = visitor.types[""], .output = y.shape(),
                           .multiply_adds = detail::multiply_adds(net, input), .memory = result.memory});
  }

  for (const auto& [path, size] : visitor.parameters) {
    result.parameters += size;
    for (Summary::Row& row : result.rows) {
      if (detail::is_inside(path, row.path)) row.parameters += size;
    }
  }
  for (const Summary::Row& row : result.rows) result.multiply_adds += row.multiply_adds;
  result.trainable_parameters = visitor.trainable;
  return result;
}

inline std::ostream& operator<<(std::ostream& out, const Summary& s) {
  detail::Table table({"path", "layer", "output shape", "parameters", "multiply-adds", "activations"});
  for (const Summary::Row& row : s.rows) {
    table.add({row.path, row.type, detail::text_of(row.output), detail::grouped(row.parameters),
               detail::grouped(row.multiply_adds), detail::mebibytes(row.memory)});
  }
  table.add({"total", "", "", detail::grouped(s.parameters), detail::grouped(s.multiply_adds), detail::mebibytes(s.memory)});
  std::ostringstream text;
  table.write(text, 3, 1);
  text << "input " << s.input << ", " << detail::grouped(s.trainable_parameters) << " of "
       << detail::grouped(s.parameters) << " parameters trainable\n";
  return out << text.str();
}

}  // namespace residua::inline RESIDUA_ABI
