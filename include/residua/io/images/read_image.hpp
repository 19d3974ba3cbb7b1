// read_image: a PNG or JPEG file as a tensor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>

#include <residua/core/tensor.hpp>
#include <residua/data/files.hpp>
#include <residua/io/images/jpeg.hpp>
#include <residua/io/images/png.hpp>

namespace residua::inline RESIDUA_ABI {

/// The image in the bytes of a PNG or JPEG file, told apart by how they begin: (H, W, 3), red, green, blue. `place` is
/// what Errors name.
///
/// The numbers are those of PIL's Image.open(path).convert("RGB"): grey is repeated, a palette looked up, alpha
/// dropped; of 16 bits the upper 8 are kept, but the numbers of a 16-bit grey image without alpha are cut off at 255;
/// CMYK is mixed without a colour profile. As there, the orientation that a camera noted (EXIF) is not applied.
///
/// Throws Error for another kind of file, a damaged or truncated one, arithmetic-coded JPEG, more than
/// options.max_pixels, and more pixels than so many bytes can hold: 1032 bytes for each byte of a PNG file, 8 blocks of
/// 8 × 8 numbers for each of a JPEG file. All this is known before memory for the image is asked for, damage apart.
inline Tensor<std::uint8_t> decode_image(std::span<const std::byte> bytes, std::string_view place = "decode_image",
                                         const ReadImageOptions& options = {}) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (text.starts_with("\x89PNG\r\n\x1a\n")) return detail::decode_png(bytes, place, options);
  if (text.starts_with("\xff\xd8\xff")) return detail::decode_jpeg(bytes, place, options);
  fail(place, "expected a PNG or JPEG file, got ", bytes.size(), " bytes that begin as neither");
}

/// The image in a file, as decode_image gives it. Throws Error, naming the file, as decode_image does and where the
/// file cannot be read.
inline Tensor<std::uint8_t> read_image(const std::filesystem::path& path, const ReadImageOptions& options = {}) {
  const std::uintmax_t size = detail::size_of_file(path, "an image file");
  return decode_image(detail::read_bytes(path, size), path.string(), options);
}

}  // namespace residua::inline RESIDUA_ABI
