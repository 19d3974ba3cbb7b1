// residua: tensors and neural-network layers over Eigen. Everything that needs Eigen alone.
#pragma once

#include <residua/blocks/repeat.hpp>
#include <residua/blocks/residual.hpp>
#include <residua/blocks/residual_block.hpp>
#include <residua/blocks/sequential.hpp>
#include <residua/core/layer.hpp>
#include <residua/core/threads.hpp>
#include <residua/core/version.hpp>
#include <residua/layers/batch_norm.hpp>
#include <residua/layers/conv2d.hpp>
#include <residua/layers/global_avg_pool2d.hpp>
#include <residua/layers/identity.hpp>
#include <residua/layers/linear.hpp>
#include <residua/layers/relu.hpp>
#include <residua/layers/subsample.hpp>
#include <residua/loss/cross_entropy.hpp>
#include <residua/optim/sgd.hpp>
