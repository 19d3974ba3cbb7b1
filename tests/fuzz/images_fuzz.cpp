// Whatever bytes an image file consists of: an Error, or an image.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include <zlib.h>

#include <residua/io/images.hpp>

using namespace residua;

void decode(std::span<const std::uint8_t> file) {
  static constexpr Index max_pixels = Index{1} << 20;
  try {
    const Tensor<std::uint8_t> image = decode_image(std::as_bytes(file), "fuzz", {.max_pixels = max_pixels});
    if (image.rank() != 3 || image.dim(2) != 3 || image.size() == 0 || image.rows() > max_pixels) std::abort();
  } catch (const Error&) {
  }
}

std::size_t number(const std::uint8_t* bytes) {
  return std::size_t{bytes[0]} << 24 | std::size_t{bytes[1]} << 16 | std::size_t{bytes[2]} << 8 | bytes[3];
}

/// Gives every chunk of a PNG file the checksum it should have: hardly any change of bytes would get past it.
void mend_checksums(std::vector<std::uint8_t>& file) {
  for (std::size_t at = 8; at + 12 <= file.size();) {
    const std::size_t size = std::min(number(&file[at]), file.size() - at - 12);
    const auto sum = static_cast<std::uint32_t>(crc32(0, &file[at + 4], static_cast<uInt>(size + 4)));
    for (std::size_t k = 0; k < 4; ++k) file[at + 8 + size + k] = static_cast<std::uint8_t>(sum >> (24 - 8 * k));
    at += 12 + size;
  }
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  decode({data, size});
  if (size > 0 && data[0] == 0x89) {
    std::vector<std::uint8_t> mended(data, data + size);
    mend_checksums(mended);
    decode(mended);
  }
  return 0;
}
