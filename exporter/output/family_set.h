// SPDX-License-Identifier: MIT
//
// FamilySet: metric families under construction, one of each name.
//
// Two families of one name are a broken scrape, so every sample goes through add(), which merges by
// name; and one label value that is not UTF-8 is a lost scrape, so every label goes through
// label(), which is the only place where label values are made.

#pragma once

#include <prometheus/metric_family.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace slabscope {

using Labels = std::vector<prometheus::ClientMetric::Label>;

prometheus::ClientMetric::Label label(std::string name, std::string_view value);
Labels with(const Labels& labels, std::string name, std::string_view value);

enum class MetricKind { kGauge, kCounter };

struct FamilyInfo {
  std::string_view name;
  MetricKind kind;
  std::string_view help;
};

class FamilySet {
 public:
  void add(const FamilyInfo& info, const Labels& labels, double value);
  void add(const FamilyInfo& info, const Labels& labels, uint64_t value) {
    add(info, labels, static_cast<double>(value));
  }

  // In the order of their first samples.
  std::vector<prometheus::MetricFamily> take() { return std::move(families_); }

 private:
  std::vector<prometheus::MetricFamily> families_;
  std::map<std::string, size_t, std::less<>> index_;
};

// The text exposition format 0.0.4, whatever the locale says.
std::string serialize(const std::vector<prometheus::MetricFamily>& families);

}  // namespace slabscope
