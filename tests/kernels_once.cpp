// Where they stand.
#define KERNEL template
#include "kernels_once.hpp"
