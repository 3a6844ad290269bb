"""How the page looks: a Gradio theme with system fonts, one accent colour, light and dark.

No font, script or picture comes from another host, so the page opens with the network cut off.
"""

from __future__ import annotations

import gradio as gr

FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
MONO_FONTS = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")

# The widgets' own colours, and the few places where Gradio leaves the page untidy.
CSS = """
:root { --lily-accent: #0f766e; --lily-accent-soft: #99f6e4; --lily-on-accent: #ffffff;
  --lily-error: #b91c1c; --lily-control: #64748b; }
:root .dark, :root.dark { --lily-accent: #2dd4bf; --lily-accent-soft: #115e59;
  --lily-on-accent: #042f2e; --lily-error: #fca5a5; --lily-control: #94a3b8; }
/* Gradio's own accent and the controls of its players are too pale to read on white. */
.gradio-container { --color-accent: var(--lily-accent); --slider-color: var(--lily-accent);
  --link-text-color: var(--lily-accent); --link-text-color-hover: var(--lily-accent);
  --link-text-color-visited: var(--lily-accent); --link-text-color-active: var(--lily-accent);
  width: 100%; max-width: 1320px !important; margin: 0 auto; }
#recording, #reference { --neutral-400: var(--lily-control); }
.gradio-container input[type="range"]::-webkit-slider-thumb { background: var(--lily-accent); }
.gradio-container input[type="range"]::-moz-range-thumb { background: var(--lily-accent); }
.gradio-container :is(button, input, textarea, a, summary, [role="tab"]):focus-visible {
  outline: 2px solid var(--lily-accent); outline-offset: 2px; }
#title h1 { margin-bottom: 0; }
#title p { margin-top: 0; color: var(--body-text-color-subdued); }
#notice { padding: 10px 14px; border-left: 4px solid var(--lily-accent);
  background: var(--background-fill-secondary); overflow-wrap: anywhere; }
#question { gap: 10px; }
#recording { min-height: 150px; }
/* Gradio's own text stands under its label and speaks of audio in general. */
:is(#recording, #reference) .upload-container .wrap { min-height: 110px; padding-top: 16px;
  font-size: 0; }
:is(#recording, #reference) .upload-container .wrap > * { display: none; }
#recording .upload-container .wrap::after { content: "Drop your recording here, or click";
  font-size: var(--text-lg); font-weight: 600; color: var(--body-text-color); }
#reference .upload-container .wrap::after { content: "Drop the original here, or click";
  font-size: var(--text-md); }
/* One player for everything: Gradio's would be a second one, and decode an hour in the browser. */
#recording audio { display: none !important; }
#recording .audio-container:has(> audio) { min-height: 72px; padding: 38px 12px 10px; }
#recording .audio-container:has(> audio) .source-selection { display: none; }
#recording :is(.record-button, .stop-button, .stop-button-paused)::before {
  background: var(--lily-error); }
#recording .audio-container:has(> audio)::after { content: "Drop another one anywhere on the page";
  color: var(--body-text-color-subdued); font-size: var(--text-sm); }
body[data-lily-drag="true"] #recording { outline: 3px dashed var(--lily-accent);
  outline-offset: 2px; }
#reference { min-height: 110px; height: auto !important; }
#queue:has(.queue[hidden]) { display: none; }
#action { gap: 8px; }
#action button { min-height: 48px; }
#examples { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 8px; }
#examples button { min-height: 44px; padding: 4px 10px; }
/* White on Gradio's red has a contrast of 3.8 to 1. */
.gradio-container button.stop { background: #b91c1c; color: #ffffff; border-color: #b91c1c; }
label:has(input[type="radio"]:disabled) { opacity: 0.5; cursor: not-allowed; }
body:is([data-lily-run="running"], [data-lily-run="error"]):not([data-lily-shown="growing"])
  #player .title::after {
  content: " (earlier)"; font-weight: 400; color: var(--body-text-color-subdued); }
#about { margin-top: 8px; font-size: var(--text-sm); color: var(--body-text-color-subdued); }
#about p { max-width: 100ch; }
/* The panel stays legible while its visitor queues. Place, time and errors it says itself: Gradio's
   pill would lie over the sentence, and its time ignores how long the recordings are. */
#chunk-map { padding: 2px 0; }
#chunk-map .pending { opacity: 1; }
#chunk-map > [data-testid="status-tracker"] { display: none; }
body[data-lily-run="lost"] .toast-wrap { display: none !important; }  /* the panel says it */
footer .divider { display: none !important; }
@media (max-width: 640px) {
  .gradio-container { padding: 8px !important; }
  #title h1 { font-size: 1.4em; }
  /* One column in the order of use: recording, button, status, player, then what may be chosen. */
  #columns { display: flex; flex-direction: column; gap: 10px; }
  #question, #answer { display: contents; }
  #question > :has(#compare), #settings, #adjust { order: 3; }
  #queue, #compare, #settings, #adjust, #action, #examples, #player { width: 100%; }
  #player > * { padding: 0; }
  #recording { min-height: 120px; flex-grow: 0; }
  #recording .upload-container .wrap { min-height: 76px; }
}
@media (min-width: 1800px) {
  .gradio-container { max-width: 1760px !important; }
}
@media (pointer: coarse), (max-width: 640px) {
  #recording :is(.icon-button-wrapper, .source-selection) button {
    min-width: 44px; min-height: 44px; justify-content: center; }
  #recording .source-selection { height: auto; }
}
@media (pointer: coarse) {
  #recording .upload-container .wrap::after { content: "Choose your recording"; }
  #reference .upload-container .wrap::after { content: "Choose the original"; }
  #recording .audio-container:has(> audio)::after { content: "Close it to choose another one"; }
  .gradio-container input[type="range"] { min-height: 24px; }
}
"""


def theme() -> gr.themes.Base:
    """The theme for ``launch``."""
    return gr.themes.Default(
        primary_hue="teal",
        secondary_hue="teal",
        neutral_hue="slate",
        font=FONTS,
        font_mono=MONO_FONTS,
    ).set(
        # Slate 400, the default, is too pale to read on white (contrast 2.6 to 1).
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_500",
        block_info_text_color_dark="*neutral_400",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_800",
    )
