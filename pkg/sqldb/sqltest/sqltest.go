// Package sqltest gives tests fresh databases on both engines.
package sqltest
