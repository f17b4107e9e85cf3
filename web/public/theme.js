// Applies the chosen theme before the first paint. A file of its own, because the page's policy forbids inline scripts.
try {
  var theme = JSON.parse(localStorage.getItem("anytime.preferences") || "{}").theme;
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // No storage, or not ours: the system's theme applies.
}
