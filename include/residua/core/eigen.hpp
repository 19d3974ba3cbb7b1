// Eigen, and nothing of it but its core.
#pragma once

// g++ 12 warns inside its own AVX-512 intrinsics (GCC bug 105593); these two warnings are silenced around them.
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ == 12
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <Eigen/Core>
#pragma GCC diagnostic pop
#else
#include <Eigen/Core>
#endif

#include <residua/core/version.hpp>

static_assert(EIGEN_VERSION_AT_LEAST(3, 4, 0), "residua needs Eigen 3.4 or newer");

namespace residua::inline RESIDUA_ABI {

/// Sizes, positions and labels: signed and 64 bits wide.
using Index = Eigen::Index;

template <typename S> using Array = Eigen::Array<S, Eigen::Dynamic, 1>;
template <typename S> using Matrix = Eigen::Matrix<S, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

template <typename S> using ArrayMap = Eigen::Map<Array<S>>;
template <typename S> using ConstArrayMap = Eigen::Map<const Array<S>>;
template <typename S> using MatrixMap = Eigen::Map<Matrix<S>>;
template <typename S> using ConstMatrixMap = Eigen::Map<const Matrix<S>>;

}  // namespace residua::inline RESIDUA_ABI
