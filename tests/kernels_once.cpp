// Where they stand.
#include "kernels_once.hpp"

namespace residua::inline RESIDUA_ABI::kernels {

KERNELS_OF(float, template)
KERNELS_OF(double, template)

}  // namespace residua::inline RESIDUA_ABI::kernels
