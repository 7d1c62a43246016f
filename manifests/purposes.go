package manifests

import "strings"

// dpv begins the terms of the W3C Data Privacy Vocabulary.
const dpv = "dpv:"

// purposes are the terms of the vocabulary (version 2.3) that a request may give,
// each with what Locker says of it: "may read … in order to …".
var purposes = map[string]string{
	"RequestedServiceProvision":          "give you what you ask it for",
	"ServiceProvision":                   "give you its service",
	"ServicePersonalisation":             "fit its service to you",
	"ServiceUsageAnalytics":              "count how its service is used",
	"ImproveExistingProductsAndServices": "improve its service",
	"OptimisationForConsumer":            "make its service better for you",
	"OptimisationForController":          "make its service better for itself",
	"PersonalisedAdvertising":            "show you advertisements chosen for you",
	"ResearchAndDevelopment":             "do research",
	"SellDataToThirdParties":             "sell your data to others",
	"SellInsightsFromData":               "sell what it learns from your data",
}

// refusedPurposes are not accepted, whatever the offer.
var refusedPurposes = map[string]bool{"SellDataToThirdParties": true, "SellInsightsFromData": true}

func purposeTerm(s string) (term string, ok bool) {
	term, ok = strings.CutPrefix(s, dpv)
	return term, ok && purposes[term] != ""
}
