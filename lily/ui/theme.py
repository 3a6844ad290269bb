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
  --lily-error: #b91c1c; }
:root .dark, :root.dark { --lily-accent: #2dd4bf; --lily-accent-soft: #115e59;
  --lily-on-accent: #042f2e; --lily-error: #fca5a5; }
#recording .upload-container .wrap { min-height: 104px; }
#reference { min-height: 96px; height: auto !important; }
#reference .upload-container .wrap { min-height: 88px; flex-direction: row; gap: 8px; }
#question, #question .tabitem > .column { gap: 10px; }
#tasks { gap: 6px; }
#question .tabitem { padding: 0; }
#examples { gap: 6px; }
#examples button { padding: 4px 6px; }
.gradio-container { width: 100%; max-width: 1240px !important; margin: 0 auto; }
#title h1 { margin-bottom: 2px; }
#title p { margin-top: 0; color: var(--body-text-color-subdued); }
#notice { padding: 10px 14px; border-left: 4px solid var(--lily-accent);
  background: var(--background-fill-secondary); overflow-wrap: anywhere; }
label:has(input[type="radio"]:disabled) { opacity: 0.5; cursor: not-allowed; }
#command textarea { font-family: var(--font-mono); font-size: var(--text-sm); }
.take h3 { margin: 0; }
/* The panel stays legible while its visitor queues, with the position in its corner; what went
   wrong it says itself, where Gradio's pill would lie over the sentence. */
#chunk-map .pending { opacity: 1; }
#chunk-map > [data-testid="status-tracker"] { overflow: visible; }
#chunk-map > [data-testid="status-tracker"] .progress-text { transform: none; padding: 10px 12px;
  font-family: var(--font); color: var(--body-text-color-subdued); }
#chunk-map > [data-testid="status-tracker"] .error { display: none; }
#chunk-map > [data-testid="status-tracker"] .clear-status { display: none; }
footer .divider { display: none !important; }
@media (max-width: 640px) { .gradio-container { padding: 8px !important; } }
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
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
    )
