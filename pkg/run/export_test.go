package run

// Available is for what /proc and /sys look like elsewhere.
var Available = available
