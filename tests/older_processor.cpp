// The processor as an older one: with RESIDUA_TEST_VECTORS=32 in the environment it has no AVX-512, with 16 no AVX2 either.
#include <cstdlib>
#include <string_view>

#if defined(__x86_64__) && !defined(__AVX512F__)

extern "C" struct CpuModel {  // the compiler's own, which __builtin_cpu_supports looks at
  unsigned vendor, type, subtype, features;
} __cpu_model;

namespace {

constexpr unsigned avx2 = 1u << 10, avx512f = 1u << 15;

[[gnu::constructor]] void forget_features() {
  const char* const vectors = std::getenv("RESIDUA_TEST_VECTORS");
  if (vectors == nullptr) return;
  __builtin_cpu_init();
  __cpu_model.features &= ~(std::string_view(vectors) == "16" ? avx2 | avx512f : avx512f);
}

}  // namespace

#endif
