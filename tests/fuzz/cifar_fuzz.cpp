// Any bytes are records of a CIFAR file or an Error. The first byte says how many records are expected, the second how
// many labels each has, the third how many pixels.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include <residua/data/cifar.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using residua::Index;
  if (size < 3) return 0;
  const Index count = data[0], label_counts[] = {20, 100};
  const std::size_t labels_each = 1 + data[1] % 2u;
  const residua::detail::CifarRecord record{std::span(label_counts).first(labels_each), data[2]};
  std::vector<Index> first, second;
  std::vector<Index>* const labels[] = {&first, &second};
  std::vector<std::uint8_t> images(static_cast<std::size_t>(3 * count * record.pixels));
  const auto bytes = std::as_bytes(std::span(data, size)).subspan(3);
  try {
    residua::detail::parse_cifar(bytes, "fuzz", count, record, labels, images.data());
    if (first.size() != static_cast<std::size_t>(count)) std::abort();
    for (const Index label : first) {
      if (label < 0 || label >= 20) std::abort();
    }
    for (const Index label : second) {
      if (label < 0 || label >= 100) std::abort();
    }
  } catch (const residua::Error&) {
  }
  return 0;
}
