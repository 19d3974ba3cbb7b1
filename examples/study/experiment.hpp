// One run: a network is watched at its start, trained, and judged. Knows nothing of what kind of network it is.
#pragma once

#include "images.hpp"

#include <cmath>
#include <sys/resource.h>

namespace study {

/// Tells which parameters' gradients are traced.
using Traced = bool (*)(const std::string& name, const ParameterData<float>& parameter);

/// The loss of training and of evaluation.
inline constexpr auto loss_of = [](const auto& logits, const auto& labels) { return cross_entropy(logits, labels); };

/// Mean, variance, norm and the share of denormal and of zero numbers of a tensor.
struct Numbers {
  double mean = 0, variance = 0, norm = 0, denormal = 0, zero = 0;

  explicit Numbers(const Tensor<float>& x) {
    if (x.empty()) return;
    double sum = 0, squares = 0;
    for (const float *v = x.cdata(), *end = v + x.size(); v != end; ++v) {
      sum += *v;
      squares += static_cast<double>(*v) * *v;
      denormal += std::fpclassify(*v) == FP_SUBNORMAL;
      zero += *v == 0;
    }
    const double count = static_cast<double>(x.size());
    mean = sum / count;
    variance = squares / count - mean * mean;
    norm = std::sqrt(squares);
    denormal /= count;
    zero /= count;
  }
};

/// The norms of the traced gradients, in the order of the layers, and which share of all their numbers is denormal.
inline json gradients_of(Sequential<float>& net, Traced traced) {
  json norms = json::array();
  double denormal = 0, count = 0;
  for (auto& p : net.parameters_if(traced)) {
    const Numbers numbers(p->grad);
    norms.push_back(numbers.norm);
    denormal += numbers.denormal * static_cast<double>(p->grad.size());
    count += static_cast<double>(p->grad.size());
  }
  return {{"norms", norms}, {"denormal", count > 0 ? denormal / count : 0}};
}

/// Forward and backward, of images of noise.
inline void step(Sequential<float>& net, Tape<float>& tape, Index batch, Index classes, Random& random) {
  const auto images = init::normal<float>(Shape{batch, 32, 32, 3}, 0, 1, random);
  std::vector<Index> labels(static_cast<std::size_t>(batch));
  for (Index& label : labels) label = random.below(classes);
  const auto loss = loss_of(net.forward(images, tape), labels);
  net.backward(loss.gradient, tape);
}

/// The most bytes that tensors hold in one step, and those of them that hold parameters and their gradients.
inline json memory_of_step(Sequential<float> net, Index batch, Index classes, Random random) {
  Tape<float> tape(random, {.input_gradient = false});
  step(net, tape, batch, classes, random);
  Index parameters = 0;
  for (auto& p : net.parameters()) parameters += p->value.size();
  return {{"peak_bytes", memory_statistics().peak}, {"parameter_bytes", 2 * parameters * static_cast<Index>(sizeof(float))}};
}

/// What flows through a fresh network: gradients of the traced weights and activations of their layers, for one batch of
/// 64 images of noise.
inline json flow_at_start(Sequential<float> net, Traced traced, Index classes, Random random) {
  std::map<std::string, Numbers> activations;
  Tape<float> tape(random, {.input_gradient = false});
  tape.observe(Probes<float>{.activation = [&](const std::string& path, const Tensor<float>& y) {
    activations.emplace(path, Numbers(y));
  }});
  step(net, tape, 64, classes, random);

  json flow = {{"layers", json::array()}};
  for (auto& [name, p] : net.named_parameters()) {
    if (!traced(name, *p)) continue;
    const std::string layer = name.substr(0, name.rfind('.'));
    const Numbers gradient(p->grad), activation = activations.at(layer);
    flow["layers"].push_back({{"name", layer}, {"gradient_norm", gradient.norm}, {"denormal", gradient.denormal},
                              {"zero", gradient.zero}, {"mean", activation.mean}, {"variance", activation.variance}});
  }
  return flow;
}

/// Trains `net` and returns all that is measured. What depends on the machine and the hour is under "times". `tell` is
/// called after each step with the share of the training that is done.
inline json experiment(Sequential<float> net, Traced traced, const Images& images, const Settings& s, double lr,
                       Random random, const std::function<void(double)>& tell) {
  const Index classes = static_cast<Index>(images.train.classes.size());
  const Summary made_of = summary(net, {1, 32, 32, 3});
  json result = {{"parameters", made_of.parameters}, {"multiply_adds", made_of.multiply_adds},
                 {"start", flow_at_start(net, traced, classes, random.split(1))}};

  const DataLoader<float> training = images.training(s, random.split(2));
  const DataLoader<float> validation = images.judging(images.test);
  if (training.size() < 1) fail("study", "expected at least one batch of ", s.batch, " images, got ", images.train.size());
  const Index steps = s.epochs * training.size();
  SGD<float> optimizer(net.parameters(), {.lr = lr, .momentum = 0.9, .weight_decay = s.weight_decay});
  OneCycleLR schedule(optimizer, {.max_lr = lr, .total_steps = steps});

  // A loss that is not finite ends the training, and is a result.
  bool diverged = false;
  const auto loss = [&](const auto& logits, const auto& labels) {
    auto l = loss_of(logits, labels);
    diverged = diverged || !std::isfinite(l.value);
    return l;
  };
  json gradients = json::array(), seconds = json::array();
  History history;
  Index done = 0;
  double seconds_of_steps = 0;
  Stopwatch watch, step_watch;
  const auto watching = [&](FitEvent& event) {
    if (event.at == FitEvent::At::step) {
      seconds_of_steps += std::exchange(step_watch, Stopwatch()).seconds();
      done = event.step;
      tell(static_cast<double>(event.step) / static_cast<double>(steps));
    }
    if (event.at != FitEvent::At::epoch) return;
    gradients.push_back(gradients_of(net, traced));
    seconds.push_back(watch.seconds());
    history = event.history;
    step_watch = Stopwatch();
  };
  try {
    fit(net, optimizer, training, loss, random,
        {.epochs = s.epochs, .schedule = &schedule,
         .validate = [&](const auto& now) { return evaluate(now, validation, loss_of).measures(); },
         .callbacks = {watching}});
  } catch (const Error&) {
    if (!diverged) throw;
  }
  result["diverged"] = diverged;
  result["gradients"] = gradients;
  for (const char* column : {"step", "loss", "accuracy", "val_loss", "val_accuracy"}) {
    result["epochs"][column] = history.rows() == 0 ? std::vector<double>() : history.column(column);
  }

  // Judged as it is now, by what it learned from and by what it did not see.
  const auto judged = [&](const ImageDataset& by, std::vector<Transform<float>> with) {
    return evaluate(net, images.judging(by, std::move(with)), loss_of);
  };
  const Evaluation learned = judged(images.train, {}), final = judged(images.test, {});
  result["train"] = {{"loss", learned.loss}, {"accuracy", learned.metrics->accuracy()}};
  result["test"] = {{"loss", final.loss}, {"accuracy", final.metrics->accuracy()},
                    {"precision", final.metrics->macro_average().precision},
                    {"recall", final.metrics->macro_average().recall}, {"f1", final.metrics->macro_average().f1}};
  result["noise"] = judged(images.test, {GaussianNoise{.sigma = 0.1}}).metrics->accuracy();
  result["blur"] = judged(images.test, {GaussianBlur{.kernel_size = 5, .sigma = {1, 1}}}).metrics->accuracy();
  const Tensor<Index>& matrix = final.metrics->confusion_matrix();
  for (Index c = 0; c < classes; ++c) {
    result["confusion"].push_back(std::vector<Index>(matrix.cdata() + c * classes, matrix.cdata() + (c + 1) * classes));
  }
  result["classes"] = images.test.classes;

  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  result["times"] = {{"epochs", seconds}, {"seconds", watch.seconds()},
                     {"seconds_per_step", seconds_of_steps / static_cast<double>(std::max<Index>(done, 1))},
                     {"peak_bytes", static_cast<double>(usage.ru_maxrss) * 1024},
                     {"peak_tensor_bytes", memory_statistics().peak}};
  return result;
}

}  // namespace study
