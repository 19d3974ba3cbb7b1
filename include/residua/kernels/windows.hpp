// The windows of images that a kernel is laid over, with zeros where they reach beyond the image.
#pragma once

#include <algorithm>

#include <residua/core/tensor.hpp>

namespace residua::inline RESIDUA_ABI::kernels {

/// Pixels w … w + count - 1 of a row of an image (H, W, C), zeros where they are beyond it.
template <typename S>
void copy_with_border(const S* image, Index H, Index W, Index C, Index h, Index w, Index count, S* to) {
  const bool inside = h >= 0 && h < H;
  const Index left = inside ? std::clamp<Index>(-w, 0, count) : count;
  const Index inner = inside ? std::max<Index>(0, std::min(w + count, W) - std::max<Index>(w, 0)) : 0;
  std::fill_n(to, left * C, S(0));
  if (inner > 0) std::copy_n(image + (h * W + w + left) * C, inner * C, to + left * C);
  std::fill_n(to + (left + inner) * C, (count - left - inner) * C, S(0));
}

/// Rows of so many numbers are copied whole sooner than in strips.
inline constexpr Index short_row = 512;

/// Windows of images n0 … n1 - 1 of x (N, H, W, C): their first pixels are in the rectangle from `first` to `last`, both
/// (row, column), and their last ones `reach` further on.
///
/// A window that stays inside its image is read where it lies. What the others read is copied: for those that reach beyond
/// the left or the right edge strips of columns, for the rest whole rows. Rows of the copies are as far apart as those of x,
/// so the pixels of every window are at the same offsets from its first. Where strips would be most of a row, or rows are
/// short, all windows are read from a single copy, whose rows have a length of their own.
template <typename S>
class Windows {
 public:
  Windows(const S* x, Index H, Index W, Index C, Index n0, Index n1, const Index (&first)[2], const Index (&last)[2],
          const Index (&reach)[2])
      : images_(x + n0 * H * W * C), H_(H), W_(W), C_(C), row_(W * C), h0_(first[0]), w0_(first[1]),
        height_(last[0] + reach[0] + 1 - h0_), inside_(H - reach[0]), left_(std::max<Index>(0, w0_)),
        right_(std::max(left_, W - reach[1])) {
    const Index width = last[1] + reach[1] + 1 - w0_;
    Index strips[2] = {w0_ < left_ ? left_ + reach[1] - w0_ : 0, last[1] < right_ ? 0 : last[1] + reach[1] + 1 - right_};
    const Index copied = strips[0] + strips[1];
    const bool whole = copied > 0 && (2 * copied > W || row_ <= short_row);
    if (whole) {
      row_ = width * C;
      left_ = last[1] + 1;
      strips[0] = width;
      strips[1] = 0;
    }
    strip_ = strips[0];
    const bool beyond = !whole && (h0_ < 0 || last[0] >= inside_);  // some are above or below
    strips_ = Tensor<S>(Shape{copied > 0 ? n1 - n0 : 0, height_, row_}, uninitialized);
    rows_ = Tensor<S>(Shape{beyond ? n1 - n0 : 0, height_, row_}, uninitialized);
    S *const strip = strips_.data(), *const row = rows_.data();
    for (Index n = 0; n < n1 - n0; ++n) {
      const S* const image = images_ + n * H * W * C;
      for (Index h = h0_; h < h0_ + height_; ++h) {
        const Index to = (n * height_ + h - h0_) * row_;
        if (strips[0] > 0) copy_with_border(image, H, W, C, h, w0_, strips[0], strip + to);
        if (strips[1] > 0) copy_with_border(image, H, W, C, h, right_, strips[1], strip + to + strips[0] * C);
        if (beyond && (h < reach[0] || h >= inside_)) copy_with_border(image, H, W, C, h, 0, W, row + to);
      }
    }
  }

  /// Windows side by side, whose first pixels are as far apart in memory as in the image.
  struct Run {
    const S* first;
    Index count;
  };
  /// The first of `most` windows of the n-th image: at (h, w), (h, w + step), …
  Run run(Index n, Index h, Index w, Index step, Index most) const {
    const Index copied = (n * height_ + h - h0_) * row_;
    const auto before = [&](Index column) { return std::min(most, (column - w + step - 1) / step); };
    if (w < left_) return {strips_.cdata() + copied + (w - w0_) * C_, before(left_)};
    if (w >= right_) return {strips_.cdata() + copied + (strip_ + w - right_) * C_, most};
    if (h < 0 || h >= inside_) return {rows_.cdata() + copied + w * C_, before(right_)};
    return {images_ + ((n * H_ + h) * W_ + w) * C_, before(right_)};
  }

  /// How far a window's pixel (h, w) is from its first one.
  Index offset(Index h, Index w) const { return h * row_ + w * C_; }

 private:
  const S* images_;
  Index H_, W_, C_, row_;
  Index h0_, w0_, height_;  // what is copied
  Index inside_;            // windows from this row on reach below the image
  Index left_, right_;      // those before this column beyond its left edge (or all), from this one on beyond its right edge
  Index strip_ = 0;         // width of the left strip
  Tensor<S> strips_, rows_;
};

}  // namespace residua::inline RESIDUA_ABI::kernels
