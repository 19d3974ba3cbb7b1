// What the header of an image file may claim.
#pragma once

#include <cstddef>
#include <string_view>

#include <residua/core/error.hpp>
#include <residua/core/options.hpp>

namespace residua::inline RESIDUA_ABI {

struct ReadImageOptions {
  Index max_pixels = 178'956'970;  ///< more are an Error; PIL's limit
};

namespace detail {

/// Throws Error for more pixels than allowed, and for a limit that is none.
inline void check_pixels(std::string_view place, Index height, Index width, const ReadImageOptions& options) {
  require_at_least("ReadImageOptions", "max_pixels", 1, options.max_pixels);
  if (width > options.max_pixels / height) {
    fail(place, "expected at most ", options.max_pixels, " pixels, got ", height, " x ", width);
  }
}

/// Throws Error where a file is smaller than the least that holds an image like that.
inline void check_file_holds(std::string_view place, Index height, Index width, Index least_bytes, std::size_t bytes) {
  if (least_bytes > static_cast<Index>(bytes)) {
    fail(place, "expected at least ", least_bytes, " bytes for ", height, " x ", width, " pixels, got ", bytes);
  }
}

}  // namespace detail

}  // namespace residua::inline RESIDUA_ABI
