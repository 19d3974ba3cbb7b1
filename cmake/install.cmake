# What `cmake --install` puts where: headers, a CMake package and a pkg-config file, all independent of the machine.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(package_dir ${CMAKE_INSTALL_DATADIR}/cmake/residua)
set(pkgconfig_dir ${CMAKE_INSTALL_DATADIR}/pkgconfig)

install(TARGETS residua EXPORT residua FILE_SET HEADERS)
# Whether residua::io and residua::images stand is seen where they are used: residuaConfig.cmake.
install(TARGETS residua_io residua_images FILE_SET HEADERS)
install(EXPORT residua NAMESPACE residua:: FILE residuaTargets.cmake DESTINATION ${package_dir})

configure_package_config_file(cmake/residuaConfig.cmake.in residuaConfig.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(residuaConfigVersion.cmake COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/residuaConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/residuaConfigVersion.cmake
        DESTINATION ${package_dir})

file(RELATIVE_PATH pkgconfig_to_prefix /${pkgconfig_dir} /)
string(REGEX REPLACE "/$" "" pkgconfig_to_prefix ${pkgconfig_to_prefix})
configure_file(cmake/residua.pc.in residua.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/residua.pc DESTINATION ${pkgconfig_dir})

install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
