// JPEG files, read by libjpeg.
#pragma once

#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include <jpeglib.h>
#include <jerror.h>

#include <residua/core/tensor.hpp>
#include <residua/io/images/limits.hpp>

namespace residua::inline RESIDUA_ABI::detail {

/// libjpeg at work on one file in memory. What it has to complain of becomes an Error, and so do those of its warnings
/// that mean wrong pixels; of the others nothing is heard.
class JpegReader {
 public:
  JpegReader(std::span<const std::byte> bytes, std::string_view place) : place_(place) {
    jpeg_.err = jpeg_std_error(&errors_);
    jpeg_.client_data = this;
    errors_.error_exit = [](j_common_ptr jpeg) { give_up(jpeg); };
    errors_.emit_message = hear;
    source_.next_input_byte = reinterpret_cast<const JOCTET*>(bytes.data());
    source_.bytes_in_buffer = bytes.size();
    source_.init_source = source_.term_source = [](j_decompress_ptr) {};
    source_.fill_input_buffer = [](j_decompress_ptr jpeg) -> boolean { end_too_early(jpeg); };
    source_.skip_input_data = skip;
    source_.resync_to_restart = jpeg_resync_to_restart;
    progress_.progress_monitor = count_scans;
  }
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;
  ~JpegReader() { jpeg_destroy_decompress(&jpeg_); }

  void read_header() {
    run([this] {
      jpeg_create_decompress(&jpeg_);
      jpeg_.src = &source_;
      jpeg_.progress = &progress_;
      jpeg_read_header(&jpeg_, TRUE);
    });
    if (jpeg_.arith_code) fail(place_, "expected Huffman coding, got arithmetic coding");
    if (channels() != 1 && channels() != 3 && channels() != 4) {
      fail(place_, "expected 1, 3 or 4 colour components, got ", channels());
    }
  }

  Index height() const { return jpeg_.image_height; }
  Index width() const { return jpeg_.image_width; }

  /// How many blocks of 8 × 8 numbers the file must hold.
  Index blocks() const {
    Index blocks = 0;
    for (int c = 0; c < channels(); ++c) {
      blocks += Index{jpeg_.comp_info[c].width_in_blocks} * jpeg_.comp_info[c].height_in_blocks;
    }
    return blocks;
  }

  /// Writes height · width · 3 bytes.
  void read_pixels(std::uint8_t* pixels) {
    const bool cmyk = channels() == 4;
    std::vector<std::uint8_t> inks(cmyk ? 4 * static_cast<std::size_t>(width()) : 0);  // of one row
    run([this, pixels, cmyk, inks = inks.data()] {
      jpeg_.out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
      jpeg_start_decompress(&jpeg_);
      for (Index h = 0; h < height(); ++h) {
        std::uint8_t* const row = pixels + h * width() * 3;
        std::uint8_t* to = cmyk ? inks : row;
        jpeg_read_scanlines(&jpeg_, &to, 1);
        if (cmyk) mix_inks(inks, row);
      }
    });
  }

 private:
  /// Only a file made to keep us busy has more: each scan goes over the whole image, and may be a few bytes long.
  static constexpr int most_scans = 500;

  int channels() const { return jpeg_.num_components; }

  /// PIL's colours for a row of cyan, magenta, yellow and black, which files hold inverted: K − (255 − CMY) · K / 255.
  void mix_inks(const std::uint8_t* inks, std::uint8_t* rgb) const {
    for (Index w = 0; w < width(); ++w, inks += 4, rgb += 3) {
      for (int c = 0; c < 3; ++c) {
        const int light = inks[3], product = (255 - inks[c]) * light + 128;
        rgb[c] = static_cast<std::uint8_t>(light - ((product >> 8) + product) / 256);
      }
    }
  }

  /// Runs a step of libjpeg. It gives up by a long jump, so nothing that has a destructor may live in a step.
  template <typename Step>
  void run(const Step& step) {
    if (!completes(step)) fail(place_, "expected a valid JPEG file, got: ", static_cast<const char*>(message_));
  }
  template <typename Step>
  [[gnu::noinline]] bool completes(const Step& step) {
    if (setjmp(way_out_) != 0) return false;
    step();
    return true;
  }

  template <typename Jpeg>
  static JpegReader& self(Jpeg jpeg) {
    return *static_cast<JpegReader*>(jpeg->client_data);
  }

  /// Gives up for the reason libjpeg has noted, or for one of ours.
  [[noreturn]] static void give_up(j_common_ptr jpeg) {
    jpeg->err->format_message(jpeg, self(jpeg).message_);
    std::longjmp(self(jpeg).way_out_, 1);
  }
  [[noreturn]] static void give_up(JpegReader& reader, const char* reason) {
    std::strncpy(reader.message_, reason, sizeof reader.message_ - 1);
    std::longjmp(reader.way_out_, 1);
  }
  [[noreturn]] static void end_too_early(j_decompress_ptr jpeg) { give_up(self(jpeg), "an end that comes too early"); }

  static void hear(j_common_ptr jpeg, int level) {
    if (level >= 0) return;  // no warning
    switch (jpeg->err->msg_code) {
      case JWRN_BOGUS_PROGRESSION:
      case JWRN_HIT_MARKER:
      case JWRN_HUFF_BAD_CODE:
      case JWRN_MUST_RESYNC: give_up(jpeg);
    }
  }

  static void skip(j_decompress_ptr jpeg, long count) {
    jpeg_source_mgr& source = *jpeg->src;
    if (count <= 0) return;
    if (static_cast<std::size_t>(count) > source.bytes_in_buffer) end_too_early(jpeg);
    source.next_input_byte += count;
    source.bytes_in_buffer -= static_cast<std::size_t>(count);
  }

  static void count_scans(j_common_ptr jpeg) {
    if (self(jpeg).jpeg_.input_scan_number > most_scans) give_up(self(jpeg), "more than 500 scans");
  }

  std::string_view place_;
  jpeg_decompress_struct jpeg_{};
  jpeg_error_mgr errors_{};
  jpeg_source_mgr source_{};
  jpeg_progress_mgr progress_{};
  std::jmp_buf way_out_;
  char message_[JMSG_LENGTH_MAX] = {};
};

/// The image (H, W, 3) in a JPEG file.
inline Tensor<std::uint8_t> decode_jpeg(std::span<const std::byte> bytes, std::string_view place,
                                        const ReadImageOptions& options) {
  JpegReader reader(bytes, place);
  reader.read_header();
  const Index H = reader.height(), W = reader.width();
  check_pixels(place, H, W, options);
  check_file_holds(place, H, W, reader.blocks() / 8, bytes.size());  // no Huffman code is shorter than a bit
  Tensor<std::uint8_t> image(Shape{H, W, 3}, uninitialized);
  reader.read_pixels(image.data());
  return image;
}

}  // namespace residua::inline RESIDUA_ABI::detail
