// The widgets' files are parts of one function body that Gradio runs (lily/ui/widget.py).
import js from "@eslint/js";

const names = (kind, text) => Object.fromEntries(text.split(" ").map((name) => [name, kind]));

export default [
  js.configs.recommended,
  {
    files: ["lily/ui/widgets/*.js"],
    languageOptions: {
      ecmaVersion: 2024,
      sourceType: "script",
      globals: {
        ...names("readonly", "element props server watch trigger upload"), // Gradio's
        ...names(
          "readonly",
          "window document navigator crypto performance fetch atob console getComputedStyle matchMedia "
          + "requestAnimationFrame setTimeout setInterval clearInterval URL Blob Image Option DataView "
          + "AudioContext AudioBuffer AudioBufferSourceNode GainNode OfflineAudioContext OffscreenCanvas "
          + "ResizeObserver MutationObserver Event CustomEvent globalThis FormData XMLHttpRequest",
        ),
        // Defined in one file, used in others.
        ...names(
          "readonly",
          "Wav Clip RATE Transport Spectrum BlindTest BlindPanel LEAST_TRIALS MOST_TRIALS Library "
          + "address stateOf save LIBRARY_CHANGED storageOrNone Shelf Takes Loop onKey tickText drawFigures made",
        ),
      },
    },
    rules: {
      "no-unused-vars": ["error", { vars: "local" }],
      "no-redeclare": ["error", { builtinGlobals: false }],
      "prefer-const": "error",
      eqeqeq: "error",
    },
  },
  {
    files: ["lily/ui/widgets/keys.js"], // a part of player.js
    languageOptions: {
      globals: names("readonly", "STEP transport blind shown find listen toggle loop"),
    },
  },
];
