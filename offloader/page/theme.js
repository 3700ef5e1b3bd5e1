// Dark or light: as the system has it until somebody says otherwise.

import { by } from "./dom.js";

const dark = matchMedia("(prefers-color-scheme: dark)");

function stored() {
  try {
    return localStorage.getItem("theme");
  } catch {
    return null; // storage may be forbidden
  }
}

function isDark() {
  return (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
}

function label() {
  by("theme").textContent = isDark() ? "Light" : "Dark";
  by("theme").setAttribute("aria-label", `Switch to the ${isDark() ? "light" : "dark"} theme`);
}

export function beginTheme() {
  const before = stored();
  if (before === "dark" || before === "light") {
    document.documentElement.dataset.theme = before;
  }
  label();
  dark.addEventListener("change", label);
  by("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("theme", document.documentElement.dataset.theme);
    } catch {
      // then it lasts as long as the page
    }
    label();
  });
}
