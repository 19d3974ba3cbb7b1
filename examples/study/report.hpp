// The report: tables as CSV, figures, and one page that shows them.
#pragma once

#include "claims.hpp"

#include <set>

namespace study {

// --- tables ----------------------------------------------------------------------------------------------------------

/// A line for each run, in the order of the plan. Nothing in it depends on the machine's speed: a study that was stopped
/// and gone on with writes the same bytes.
inline std::string results_csv(const Results& results) {
  std::string text = "depth,connection,norm,seed,lr,scale,parameters,multiply_adds,first_gradient,last_gradient,"
                     "denormal,denormal_at_end,diverged,train_loss,train_accuracy,test_loss,test_accuracy,gap,noise,blur,"
                     "precision,recall,f1\n";
  for (const auto& [run, r] : results.all()) {
    const json& layers = r["start"]["layers"];
    double denormal = 0;
    for (const json& layer : layers) denormal += number(layer["denormal"]) / static_cast<double>(layers.size());
    text += std::to_string(run.depth) + ',' + run.connection + ',' + run.norm + ',' + std::to_string(run.seed);
    for (const double value :
         {run.lr, run.scale, number(r["parameters"]), number(r["multiply_adds"]),
          number(layers.front()["gradient_norm"]), number(layers.back()["gradient_norm"]), denormal,
          r["gradients"].empty() ? nan : number(r["gradients"].back()["denormal"]), r["diverged"] == true ? 1.0 : 0.0, number(r["train"]["loss"]), measure::train_accuracy(r),
          number(r["test"]["loss"]), measure::test_accuracy(r), measure::gap(r), number(r["noise"]), number(r["blur"]),
          number(r["test"]["precision"]), number(r["test"]["recall"]), number(r["test"]["f1"])}) {
      text += ',' + short_number(value, "%.9g");
    }
    text += '\n';
  }
  return text;
}

/// What does depend on it: a line for each run, and how long the target took.
inline std::string times_csv(const Results& results, double target) {
  std::string text = "depth,connection,norm,seed,lr,scale,seconds,seconds_per_step,steps_to_target,seconds_to_target,"
                     "peak_bytes,peak_tensor_bytes\n";
  for (const auto& [run, r] : results.all()) {
    const auto epoch = epoch_of(r, target);
    text += std::to_string(run.depth) + ',' + run.connection + ',' + run.norm + ',' + std::to_string(run.seed);
    for (const double value : {run.lr, run.scale, number(r["times"]["seconds"]), number(r["times"]["seconds_per_step"]),
                               epoch ? at_epoch(r["epochs"]["step"], *epoch) : nan,
                               epoch ? at_epoch(r["times"]["epochs"], *epoch) : nan, number(r["times"]["peak_bytes"]),
                               number(r["times"]["peak_tensor_bytes"])}) {
      text += ',' + short_number(value, "%.6g");
    }
    text += '\n';
  }
  return text;
}

// --- figures ---------------------------------------------------------------------------------------------------------

class Figures {
 public:
  Figures(const Settings& settings, const Results& results) : s_(settings), r_(results), c_(settings) {}

  std::vector<Figure> all() const {
    std::vector<Figure> figures;
    for (const auto& norm : s_.norms) {
      figures.push_back(by_layer("gradients_" + norm, "Gradients at the start, norm " + norm, "norm of the gradient",
                                 "gradient_norm", norm));
    }
    for (const auto& norm : s_.norms) {
      figures.push_back(by_layer("activations_" + norm, "Activations at the start, norm " + norm, "variance of a layer's output", "variance", norm));
    }
    for (const auto& norm : s_.norms) {
      figures.push_back(by_epoch("loss_" + norm, "Training loss, norm " + norm, "training loss, nats", norm,
                                 [](const json& r, std::size_t epoch) { return value(r["epochs"]["loss"], epoch); }));
    }
    for (const auto& norm : s_.norms) {
      figures.push_back(by_epoch("accuracy_" + norm, "Accuracy on test images, norm " + norm, share, norm,
                                 [](const json& r, std::size_t epoch) { return value(r["epochs"]["val_accuracy"], epoch); }));
    }
    for (const auto& norm : s_.norms) {
      figures.push_back(by_epoch("first_gradient_" + norm, "First layer's gradient while training, norm " + norm,
                                 "norm of the gradient", norm,
                                 [](const json& r, std::size_t epoch) {
                                   return epoch < r["gradients"].size() ? number(r["gradients"][epoch]["norms"].front()) : nan;
                                 }));
      figures.back().log_y = true;
    }
    if (s_.depths.size() > 1) {
      for (const auto& connection : s_.connections) figures.push_back(by_depth(connection));
    }
    if (!s_.sweep_lr.empty()) figures.push_back(sweep("sweep_lr", "Learning rate", &Run::lr, s_.sweep_lr));
    if (!s_.sweep_scale.empty()) figures.push_back(sweep("sweep_scale", "Scale of the initial weights", &Run::scale, s_.sweep_scale));
    if (!s_.memory_depths.empty()) figures.push_back(memory());
    return figures;
  }

 private:
  static constexpr const char* share = "test accuracy, share of images";

  static double value(const json& values, std::size_t i) { return i < values.size() ? number(values[i]) : nan; }

  /// The finite ones of what the runs measured.
  template <typename F>
  static Spread over_seeds(const std::vector<const Results::Entry*>& runs, F&& f) {
    std::vector<double> values;
    for (const auto* run : runs) {
      if (const double v = f(run->result); std::isfinite(v)) values.push_back(v);
    }
    return Spread(values);
  }

  /// A curve for each connection, in its colour, and two depths, the deeper one dashed.
  template <typename F>
  std::vector<Curve> by_connection_and_depth(const std::string& norm, F&& points_of) const {
    std::vector<Curve> curves;
    for (std::size_t i = 0; i < s_.connections.size(); ++i) {
      for (const Index depth : std::set<Index>{c_.shallow, c_.deep}) {
        Curve curve{shown(s_.connections[i]) + " " + std::to_string(depth), i, depth == c_.shallow ? 0u : 1u};
        points_of(r_.of(depth, s_.connections[i], norm, s_.lr), curve);
        if (!curve.points.empty()) curves.push_back(std::move(curve));
      }
    }
    return curves;
  }

  Figure by_layer(std::string file, std::string title, std::string y, const char* what, const std::string& norm) const {
    Figure figure{std::move(file), std::move(title), "place in the network: 0 first, 1 last", std::move(y), false, true};
    figure.curves = by_connection_and_depth(norm, [&](const auto& runs, Curve& curve) {
      const std::size_t layers = runs.empty() ? 0 : runs[0]->result["start"]["layers"].size();
      for (std::size_t i = 0; i < layers; ++i) {
        curve.points.emplace_back(static_cast<double>(i) / static_cast<double>(std::max<std::size_t>(layers - 1, 1)),
                                  over_seeds(runs, [&](const json& r) { return number(r["start"]["layers"][i][what]); }));
      }
    });
    return figure;
  }

  template <typename F>
  Figure by_epoch(std::string file, std::string title, std::string y, const std::string& norm, F&& f) const {
    Figure figure{std::move(file), std::move(title), "epoch", std::move(y)};
    figure.curves = by_connection_and_depth(norm, [&](const auto& runs, Curve& curve) {
      for (std::size_t epoch = 0; epoch < static_cast<std::size_t>(s_.epochs); ++epoch) {
        const Spread spread = over_seeds(runs, [&](const json& r) { return f(r, epoch); });
        if (spread.count > 0) curve.points.emplace_back(static_cast<double>(epoch + 1), spread);
      }
    });
    return figure;
  }

  Figure by_depth(const std::string& connection) const {
    Figure figure{"depth_" + connection, "Accuracy by depth, " + shown(connection), "depth, layers", share, true};
    for (std::size_t i = 0; i < s_.norms.size(); ++i) {
      Curve curve{s_.norms[i], i, i};
      for (const Index depth : std::set<Index>(s_.depths.begin(), s_.depths.end())) {
        curve.points.emplace_back(static_cast<double>(depth),
                                  over_seeds(r_.of(depth, connection, s_.norms[i], s_.lr), measure::test_accuracy));
      }
      figure.curves.push_back(std::move(curve));
    }
    return figure;
  }

  Figure sweep(std::string file, std::string x, double Run::*varied, const std::vector<double>& values) const {
    Figure figure{std::move(file), x + ": accuracy at " + std::to_string(s_.sweep_depth) + " layers", x, share, true};
    const Run middle{s_.sweep_depth, "", "", 1, s_.lr, 1};
    std::set<double> all(values.begin(), values.end());
    all.insert(middle.*varied);
    for (std::size_t i = 0; i < s_.connections.size(); ++i) {
      for (std::size_t j = 0; j < s_.sweep_norms.size(); ++j) {
        Curve curve{shown(s_.connections[i]) + ", " + s_.sweep_norms[j], i, j};
        for (const double value : all) {
          const Run run = middle.with(varied, value);
          const auto runs = r_.of(run.depth, s_.connections[i], s_.sweep_norms[j], run.lr, run.scale);
          if (!runs.empty()) curve.points.emplace_back(value, Spread({measure::test_accuracy(runs[0]->result)}));
        }
        figure.curves.push_back(std::move(curve));
      }
    }
    return figure;
  }

  Figure memory() const {
    Figure figure{"memory", "Memory of one step, " + std::to_string(s_.memory_batch) + " images", "depth, layers",
                  "most held by tensors, MB", true, true};
    figure.curves = {{"all kept", 0, 0}, {"with checkpoints", 1, 1}, {"√depth", 6, 2}, {"parameters, gradients", 2, 3}};
    const std::set<Index> depths(s_.memory_depths.begin(), s_.memory_depths.end());
    const Index shallow = *depths.begin();
    for (const Index depth : depths) {
      const double x = static_cast<double>(depth), root = std::sqrt(x / static_cast<double>(shallow));
      const std::array bytes{r_.memory(depth, false).peak, r_.memory(depth, true).peak,
                             root * r_.memory(shallow, true).peak, r_.memory(depth, true).parameters};
      for (std::size_t i = 0; i < bytes.size(); ++i) figure.curves[i].points.emplace_back(x, Spread({bytes[i] / 1e6}));
    }
    return figure;
  }

  const Settings& s_;
  const Results& r_;
  const Chosen c_;
};

// --- the page --------------------------------------------------------------------------------------------------------

inline std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    result += c == '<' ? std::string("&lt;") : c == '>' ? std::string("&gt;") : c == '&' ? std::string("&amp;") : std::string(1, c);
  }
  return result;
}

inline std::string cell(const std::string& text, const std::string& more = "") { return "<td" + more + ">" + text + "</td>"; }

/// Mean and, over several seeds, deviation.
inline std::string with_deviation(const Spread& s, double factor = 1, const char* format = "%.1f") {
  return short_number(factor * s.mean, format) + (s.count > 1 ? " ± " + short_number(factor * s.deviation, format) : "");
}

/// A line for each setting of the grid.
inline std::string table_of(const Settings& s, const Results& results) {
  std::string text = "<table><thead><tr><th>depth<th>connection<th>norm<th>test, %<th>training, %<th>gap, points<th>training "
                     "loss<th>noise, %<th>blur, %<th>F1<th>first / last gradient<th>ms a step<th>parameters"
                     "<th>multiply-adds, M<th>peak MB</tr></thead><tbody>";
  for (const Index depth : s.depths) {
    for (const auto& connection : s.connections) {
      for (const auto& norm : s.norms) {
        const auto runs = results.of(depth, connection, norm, s.lr);
        const auto of = [&](Measure m) { return Spread(Results::values(runs, m)); };
        text += "<tr>" + cell(std::to_string(depth)) + cell(shown(connection)) + cell(norm) +
                cell(with_deviation(of(measure::test_accuracy), 100)) + cell(with_deviation(of(measure::train_accuracy), 100)) +
                cell(with_deviation(of(measure::gap), 100)) + cell(with_deviation(of(measure::train_loss), 1, "%.3f")) +
                cell(with_deviation(of([](const json& r) { return number(r["noise"]); }), 100)) +
                cell(with_deviation(of([](const json& r) { return number(r["blur"]); }), 100)) +
                cell(with_deviation(of([](const json& r) { return number(r["test"]["f1"]); }), 1, "%.3f")) +
                cell(with_deviation(of(measure::first_to_last), 1, "%.1e")) +
                cell(with_deviation(of([](const json& r) { return number(r["times"]["seconds_per_step"]); }), 1000)) +
                cell(short_number(of([](const json& r) { return number(r["parameters"]); }).mean, "%.0f")) +
                cell(short_number(of([](const json& r) { return number(r["multiply_adds"]); }).mean / 1e6, "%.1f")) +
                cell(short_number(of([](const json& r) { return number(r["times"]["peak_bytes"]); }).mean / 1e6, "%.0f")) +
                "</tr>\n";
      }
    }
  }
  return text + "</tbody></table>";
}

/// How often each class (a line) was taken for which (a column), and how well each is told.
inline std::string confusion_of(const Results::Entry& entry) {
  const json& matrix = entry.result["confusion"];
  const json& classes = entry.result["classes"];
  std::string text = "<table class=confusion><thead><tr><th>shown \\ named";
  for (const json& name : classes) text += "<th>" + escaped(name.get<std::string>());
  text += "<th>precision<th>recall<th>F1</tr></thead><tbody>";
  for (std::size_t i = 0; i < classes.size(); ++i) {
    double shown_as = 0, named = 0;
    for (std::size_t j = 0; j < classes.size(); ++j) {
      shown_as += number(matrix[i][j]);
      named += number(matrix[j][i]);
    }
    text += "<tr><th>" + escaped(classes[i].get<std::string>());
    for (const json& count : matrix[i]) {
      const double share = shown_as > 0 ? number(count) / shown_as : 0;
      text += cell(count.dump(), " style=\"background:rgb(0 114 178/" + short_number(share, "%.2f") + ")\"");
    }
    const double right = number(matrix[i][i]), precision = named > 0 ? right / named : 0,
                 recall = shown_as > 0 ? right / shown_as : 0, sum = precision + recall;
    for (const double value : {precision, recall, sum > 0 ? 2 * precision * recall / sum : 0.0}) {
      text += cell(short_number(value, "%.2f"));
    }
    text += "</tr>\n";
  }
  return text + "</tbody></table>";
}

inline constexpr const char* style = R"(
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --line: #ccc; --soft: #f4f4f2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #16181a; --line: #444; --soft: #202326; }
  svg { filter: brightness(1.3); } }
body { margin: 0 auto; padding: 1rem; max-width: 80rem; background: var(--paper); color: var(--ink);
       font: 16px/1.5 system-ui, sans-serif; }
h1, h2 { line-height: 1.2; } h3 { margin: 1.5rem 0 .3rem; }
.claims { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fit, minmax(min(17rem, 100%), 1fr)); }
.claim { border: 1px solid var(--line); border-left: .4rem solid #888; border-radius: .3rem; padding: .6rem .8rem;
         background: var(--soft); }
.claim.holds { border-left-color: #0072b2; } .claim.fails { border-left-color: #d55e00; }
.claim h3, .claim p { margin: 0; } .claim b { display: block; margin: .2rem 0; }
.wide { overflow-x: auto; } .wide svg { display: block; min-width: 28rem; width: 100%; height: auto; }
.figures { display: grid; gap: 1rem 2rem; grid-template-columns: repeat(auto-fit, minmax(min(32rem, 100%), 1fr)); }
figure { margin: 0; min-width: 0; } figure h3 { margin: 0; }
svg [stroke="black"] { stroke: var(--ink); } svg [fill="black"] { fill: var(--ink); } svg [color="black"] { color: var(--ink); }
table { border-collapse: collapse; font-size: .85rem; }
th, td { padding: .2rem .5rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
tbody th { text-align: left; }
)";

inline std::string page(const Settings& s, const Results& results, const std::vector<std::pair<Figure, std::string>>& pictures,
                        const std::string& error) {
  static constexpr std::array verdicts{std::array{"holds", "✓ It held here."}, std::array{"fails", "✗ It did not hold here."},
                                       std::array{"open", "– Not measured:"}};
  std::string text = "<!doctype html>\n<html lang=en><head><meta charset=utf-8>\n<meta name=viewport "
                     "content=\"width=device-width, initial-scale=1\">\n<title>Residual connections and normalisation, "
                     "measured</title>\n<link rel=icon href=\"data:,\">\n<style>" + std::string(style) + "</style></head>\n<body>\n"
                     "<h1>Residual connections and normalisation, measured</h1>\n<div class=claims>\n";
  for (const Claim& claim : Claims(s, results).all()) {
    const auto& [name, said] = verdicts[static_cast<std::size_t>(claim.verdict)];
    text += "<div class=\"claim " + std::string(name) + "\"><h3>" + escaped(claim.claim) + "</h3><b>" + said + "</b><p>" +
            escaped(claim.measured) + "</p></div>\n";
  }
  text += "</div>\n<p>" + std::to_string(results.all().size()) + " trainings on " + (s.data.empty() ? "textured shapes" : "CIFAR-10") +
          ": " + std::to_string(s.train_images) + " training images, " + std::to_string(s.test_images) + " test images, " +
          std::to_string(s.epochs) + " epochs, batch " + std::to_string(s.batch) + ", width " + std::to_string(s.width) +
          ", learning rate " + short_number(s.lr) + ". Bands and ± show the spread over " + std::to_string(s.seeds) +
          (s.seeds == 1 ? " seed" : " seeds") +
          ". All numbers: results.csv, times.csv, runs.jsonl and figures/ beside this page.</p>\n";
  if (!error.empty()) text += "<p>" + escaped(error) + "</p>\n";
  text += "<h2>Figures</h2>\n<div class=figures>\n";
  for (const auto& [figure, picture] : pictures) {
    if (picture.empty()) continue;
    text += "<figure><figcaption><h3>" + escaped(figure.title) + "</h3></figcaption><div class=wide>" + picture + "</div></figure>\n";
  }
  text += "</div>\n<h2>Every setting</h2>\n<div class=wide>" + table_of(s, results) + "</div>\n<h2>Confusion matrices</h2>\n";
  for (const Index depth : s.depths) {
    for (const auto& connection : s.connections) {
      for (const auto& norm : s.norms) {
        const auto runs = results.of(depth, connection, norm, s.lr);
        if (runs.empty()) continue;
        text += "<details><summary>" + shown(connection) + " " + std::to_string(depth) + ", norm " + norm + ", seed 1: " +
                short_number(100 * measure::test_accuracy(runs[0]->result), "%.1f") + " %</summary><div class=wide>" +
                confusion_of(*runs[0]) + "</div></details>\n";
      }
    }
  }
  return text + "</body></html>\n";
}

/// Writes results.csv, times.csv, figures/ and report.html, each as a whole or not at all.
inline void write_report(const Settings& s, const Results& results) {
  const fs::path folder = s.report;
  write_file_atomically(folder / "results.csv", results_csv(results));
  write_file_atomically(folder / "times.csv", times_csv(results, s.target));
  fs::create_directories(folder / "figures");
  std::vector<std::pair<Figure, std::string>> pictures;
  std::string error;
  for (Figure& figure : Figures(s, results).all()) {
    std::string picture = draw(figure, folder / "figures", error);
    pictures.emplace_back(std::move(figure), std::move(picture));
  }
  if (!error.empty()) std::fprintf(stderr, "%s\n", error.c_str());
  write_file_atomically(folder / "report.html", page(s, results, pictures, error));
}

}  // namespace study
