# The machine's Eigen under the version number the test asks for.
if(NOT TARGET Eigen3::Eigen)
  add_library(Eigen3::Eigen INTERFACE IMPORTED)
  target_include_directories(Eigen3::Eigen INTERFACE ${STUB_EIGEN_INCLUDE})
endif()
