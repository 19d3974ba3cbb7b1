// What most test programs would compile anew: the headers, read once for all of them, and the large kernels, of which they
// are told here that they stand elsewhere.
#pragma once

#include <residua/residua.hpp>

namespace residua::inline RESIDUA_ABI::kernels {

#define KERNELS_OF(S, KERNEL)                                                                                         \
  KERNEL void matmul<S>(ConstMatrixMap<S>, ConstMatrixMap<S>, MatrixMap<S>, Epilogue<S>);                             \
  KERNEL void matmul_bt<S>(ConstMatrixMap<S>, ConstMatrixMap<S>, MatrixMap<S>, Epilogue<S>);                          \
  KERNEL void matmul_at<S>(ConstMatrixMap<S>, ConstMatrixMap<S>, MatrixMap<S>);                                       \
  KERNEL class ConvolutionWeights<S>;                                                                                 \
  KERNEL void convolution<S>(const S*, const S*, S*, const ConvolutionShape&, const Epilogue<S>&);                    \
  KERNEL void convolution_input_gradient<S>(const S*, const S*, S*, const ConvolutionShape&);                         \
  KERNEL void convolution_weight_gradient<S>(const S*, const S*, S*, const ConvolutionShape&);                        \
  KERNEL void max_pool<S>(const S*, S*, std::int32_t*, Index, Index, const PoolAxis&, const PoolAxis&);               \
  KERNEL void max_pool_gradient<S>(const S*, const std::int32_t*, S*, Index, Index, const PoolAxis&, const PoolAxis&);\
  KERNEL void row_norm<S>(const RowNorm<S>&, const S*, S*, S*);                                                       \
  KERNEL void row_norm_gradient<S>(const RowNorm<S>&, const S*, const S*, const S*, S*, S*, S*);                      \
  KERNEL void group_norm<S>(const GroupNorm<S>&, const S*, S*, S*, const S*, bool, std::uint8_t*);                    \
  KERNEL void group_norm_gradient<S>(const GroupNorm<S>&, const S*, const S*, const S*, S*, S*, S*);

KERNELS_OF(float, extern template)
KERNELS_OF(double, extern template)

}  // namespace residua::inline RESIDUA_ABI::kernels
