// Matrix products beside OpenBLAS.
#include <cblas.h>

#include "cases.hpp"
#include "peer.hpp"

namespace compare {

namespace {

/// c (M, N) = a (M, K) · b (K, N)
Comparison compare_matmul(Index M, Index N, Index K) {
  struct Operands {
    Tensor<float> a, b, ours, peer;
  };
  const auto t = std::make_shared<Operands>(Operands{random_tensor({M, K}), random_tensor({K, N}, 2),
                                                     Tensor<float>({M, N}), Tensor<float>({M, N})});
  Comparison c;
  c.ours = [t] {
    return seconds([&] { kernels::matmul<float>(t->a.cmatrix(), t->b.cmatrix(), t->ours.matrix()); });
  };
  c.peer.push_back({"OpenBLAS", [=] {
    return seconds([&] {
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, static_cast<blasint>(M), static_cast<blasint>(N),
                  static_cast<blasint>(K), 1, t->a.cdata(), static_cast<blasint>(K), t->b.cdata(),
                  static_cast<blasint>(N), 0, t->peer.data(), static_cast<blasint>(N));
    });
  }});
  c.difference = [t, ours = c.ours, peer = c.peer[0].run] {
    ours();
    peer();
    return difference(t->ours, to_peer(t->peer), output_tolerance);
  };
  c.flops = 2.0 * static_cast<double>(M * N * K);
  c.bytes = 4.0 * static_cast<double>(M * K + K * N + M * N);
  return c;
}

}  // namespace

std::vector<Case> matmul_cases() {
  struct Sizes {
    Index M, N, K;
  };
  const std::vector<Sizes> all{{1024, 768, 768}, {1024, 3072, 768}, {200, 240, 256}, {25088, 96, 256}};
  std::vector<Case> cases;
  for (const auto [M, N, K] : all) {
    const std::string name = std::to_string(M) + 'x' + std::to_string(N) + 'x' + std::to_string(K);
    cases.push_back({"matmul/" + name, [=] { return compare_matmul(M, N, K); }});
  }
  return cases;
}

}  // namespace compare
