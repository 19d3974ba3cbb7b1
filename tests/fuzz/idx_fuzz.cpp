// Any bytes are an IDX file or an Error.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include <residua/data/idx.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  try {
    const residua::Tensor<std::uint8_t> x = residua::parse_idx(bytes);
    const auto header = static_cast<std::size_t>(4 + 4 * x.rank());
    if (header + static_cast<std::size_t>(x.size()) != size) std::abort();
    if (!std::equal(x.cdata(), x.cdata() + x.size(), data + header)) std::abort();
  } catch (const residua::Error&) {
  }
  return 0;
}
