// PNG files, read by libpng.
#pragma once

#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <span>
#include <string_view>

#include <png.h>

#include <residua/core/tensor.hpp>
#include <residua/io/images/limits.hpp>

namespace residua::inline RESIDUA_ABI::detail {

/// libpng at work on one file in memory. What it has to complain of becomes an Error; of what it only warns, nothing is
/// heard.
class PngReader {
 public:
  PngReader(std::span<const std::byte> bytes, std::string_view place)
      : place_(place), rest_(bytes),
        png_(png_create_read_struct(PNG_LIBPNG_VER_STRING, this, give_up, [](png_structp, png_const_charp) {})),
        info_(png_ == nullptr ? nullptr : png_create_info_struct(png_)) {
    if (info_ == nullptr) {
      png_destroy_read_struct(&png_, nullptr, nullptr);
      throw std::bad_alloc();
    }
  }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;
  ~PngReader() { png_destroy_read_struct(&png_, &info_, nullptr); }

  void read_header() {
    run([this] {
      png_set_read_fn(png_, this, read_bytes);
      png_set_user_limits(png_, PNG_UINT_31_MAX, PNG_UINT_31_MAX);  // what is too large is seen in the header
      png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);  // texts, colour profiles and the like
      png_read_info(png_, info_);
    });
  }

  Index height() const { return png_get_image_height(png_, info_); }
  Index width() const { return png_get_image_width(png_, info_); }
  Index bits_per_pixel() const { return Index{png_get_bit_depth(png_, info_)} * png_get_channels(png_, info_); }

  /// Writes height · width · 3 bytes.
  void read_pixels(std::uint8_t* pixels) {
    run([this, pixels] {
      const bool grey = png_get_color_type(png_, info_) == PNG_COLOR_TYPE_GRAY;
      const bool wide_grey = grey && png_get_bit_depth(png_, info_) == 16;
      if (!wide_grey) convert_to_rgb();
      const int passes = png_set_interlace_handling(png_);
      png_read_update_info(png_, info_);
      const std::size_t row = 3 * static_cast<std::size_t>(width());
      if (png_get_rowbytes(png_, info_) > row) png_error(png_, "rows that are too long");
      for (int pass = 0; pass < passes; ++pass) {
        for (Index h = 0; h < height(); ++h) png_read_row(png_, pixels + static_cast<std::size_t>(h) * row, nullptr);
      }
      png_read_end(png_, nullptr);
      if (!wide_grey) return;
      for (Index h = 0; h < height(); ++h) cut_off_grey(pixels + static_cast<std::size_t>(h) * row);
    });
  }

 private:
  /// Whatever the file has, libpng gives three bytes for a pixel.
  void convert_to_rgb() {
    png_set_palette_to_rgb(png_);
    png_set_expand_gray_1_2_4_to_8(png_);
    png_set_strip_16(png_);
    png_set_gray_to_rgb(png_);
    png_set_strip_alpha(png_);
  }

  /// A row of 16-bit numbers becomes one of three bytes for a pixel, in the same memory: min(grey, 255), as in PIL.
  void cut_off_grey(std::uint8_t* row) const {
    for (Index w = width(); w-- > 0;) {
      const std::uint8_t high = row[2 * w], low = row[2 * w + 1];
      std::memset(row + 3 * w, high > 0 ? 255 : low, 3);
    }
  }

  /// Runs a step of libpng. It gives up by a long jump, so nothing that has a destructor may live in a step.
  template <typename Step>
  void run(const Step& step) {
    if (!completes(step)) fail(place_, "expected a valid PNG file, got: ", static_cast<const char*>(message_));
  }
  template <typename Step>
  [[gnu::noinline]] bool completes(const Step& step) {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;
    step();
    return true;
  }

  [[noreturn]] static void give_up(png_structp png, png_const_charp message) {
    auto* self = static_cast<PngReader*>(png_get_error_ptr(png));
    std::strncpy(self->message_, message, sizeof self->message_ - 1);
    png_longjmp(png, 1);
  }

  static void read_bytes(png_structp png, png_bytep to, std::size_t count) {
    auto& rest = static_cast<PngReader*>(png_get_io_ptr(png))->rest_;
    if (count > rest.size()) png_error(png, "an end that comes too early");
    std::memcpy(to, rest.data(), count);
    rest = rest.subspan(count);
  }

  std::string_view place_;
  std::span<const std::byte> rest_;
  char message_[128] = {};
  png_structp png_;
  png_infop info_;
};

/// The image (H, W, 3) in a PNG file.
inline Tensor<std::uint8_t> decode_png(std::span<const std::byte> bytes, std::string_view place,
                                       const ReadImageOptions& options) {
  PngReader reader(bytes, place);
  reader.read_header();
  const Index H = reader.height(), W = reader.width();
  check_pixels(place, H, W, options);
  // Deflate makes at most 1032 bytes of one: 258 of two bits.
  check_file_holds(place, H, W, H * ((W * reader.bits_per_pixel() + 7) / 8) / 1032, bytes.size());
  Tensor<std::uint8_t> image(Shape{H, W, 3}, uninitialized);
  reader.read_pixels(image.data());
  return image;
}

}  // namespace residua::inline RESIDUA_ABI::detail
