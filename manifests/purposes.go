package manifests

import "strings"

// dpv begins the terms of the W3C Data Privacy Vocabulary.
const dpv = "dpv:"

// A purpose is a term of the vocabulary (version 2.3) that a request may give, and
// what Locker says of it: "may read …, to …".
type purpose struct {
	term, words string
	refused     bool // not accepted, whatever the offer
}

var purposes = []purpose{
	{term: "RequestedServiceProvision", words: "give you what you ask it for"},
	{term: "ServiceProvision", words: "give you its service"},
	{term: "ServicePersonalisation", words: "fit its service to you"},
	{term: "ServiceUsageAnalytics", words: "count how its service is used"},
	{term: "ImproveExistingProductsAndServices", words: "improve its service"},
	{term: "OptimisationForConsumer", words: "make its service better for you"},
	{term: "OptimisationForController", words: "make its service better for itself"},
	{term: "PersonalisedAdvertising", words: "show you advertisements chosen for you"},
	{term: "ResearchAndDevelopment", words: "do research"},
	{term: "SellDataToThirdParties", words: "sell your data to others", refused: true},
	{term: "SellInsightsFromData", words: "sell what it learns from your data", refused: true},
}

// findPurpose finds a purpose by its name in a manifest.
func findPurpose(name string) (purpose, bool) {
	term, ok := strings.CutPrefix(name, dpv)
	for _, p := range purposes {
		if ok && p.term == term {
			return p, true
		}
	}
	return purpose{}, false
}
