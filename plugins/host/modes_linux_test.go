package host

// modes are the ways in which processes are started for real.
func modes() []mode { return []mode{{"full", &allLayers}, {"fallback", &fallbackLayers}} }
