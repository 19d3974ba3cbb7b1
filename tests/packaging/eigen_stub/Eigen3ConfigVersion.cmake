# As the real one answers: any other major version than its own is refused, so Eigen 5 refuses a request for 3.4.
set(PACKAGE_VERSION ${STUB_EIGEN_VERSION})
string(REGEX MATCH "^[0-9]+" major ${PACKAGE_VERSION})
if(NOT PACKAGE_FIND_VERSION)
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
elseif(PACKAGE_FIND_VERSION_MAJOR EQUAL major AND NOT PACKAGE_VERSION VERSION_LESS PACKAGE_FIND_VERSION)
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
endif()
