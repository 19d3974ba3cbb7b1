// The sizes of a convolution over channels-last images.
//
// N images, H × W pixels, C channels in, K channels out, R × S taps; G groups. Weights are (K, R, S, C/G).
#pragma once

#include <residua/core/shape.hpp>

namespace residua::inline RESIDUA_ABI {

/// How a convolution is computed.
enum class ConvAlgorithm {
  automatic,  ///< by the sizes
  direct,     ///< as the sum it is
  winograd,   ///< with fewer multiplications, for 3 × 3 taps, stride 1 and dilation 1; rounding errors in float stay
              ///< below 2e-5 of the largest result
};

namespace kernels {

/// The sizes of a convolution; h before w where there are two.
struct ConvolutionShape {
  Index N, H, W, C, K;
  Index kernel[2], stride[2], padding[2], dilation[2];
  Index groups;
  ConvAlgorithm algorithm = ConvAlgorithm::automatic;

  Index out(int axis) const {
    const Index in = axis == 0 ? H : W;
    return (in + 2 * padding[axis] - dilation[axis] * (kernel[axis] - 1) - 1) / stride[axis] + 1;
  }
  bool depthwise() const { return groups > 1 && groups == C && groups == K; }
  Index taps() const { return kernel[0] * kernel[1]; }
  Shape input() const { return {N, H, W, C}; }
  Shape output() const { return {N, out(0), out(1), K}; }
  Shape weight() const { return {K, kernel[0], kernel[1], C / groups}; }
  Index multiply_adds() const { return N * out(0) * out(1) * K * taps() * (C / groups); }
};

}  // namespace kernels

}  // namespace residua::inline RESIDUA_ABI
