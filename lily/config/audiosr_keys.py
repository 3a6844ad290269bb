"""AudioSR's names in a configuration: those Lily reads under another name, and those it ignores."""

from __future__ import annotations

from collections.abc import Mapping

# Written by AudioSR's configurations, and read by neither inference nor training here.
AUDIOSR_UNUSED = frozenset(
    """
    target base_learning_rate warmup_steps optimize_ddpm_parameter sampling_rate batchsize
    linear_start linear_end num_timesteps_cond log_every_t first_stage_key latent_t_size
    latent_f_size monitor evaluation_params reload_from_ckpt image_key subband time_shuffle
    double_z resolution downsample_time attn_resolutions image_size use_spatial_transformer
    lossconfig cond_stage_config extra_film_condition_dim context_dim legacy scale_by_std
    """.split()  # noqa: SIM905
)

# Keys of ``preprocessing`` by section, and MelConfig's name for each; "" is ignored.
PREPROCESSING: Mapping[str, Mapping[str, str]] = {
    "audio": {"sampling_rate": "sample_rate", "duration": "", "max_wav_value": ""},
    "stft": {"filter_length": "n_fft", "hop_length": "hop", "win_length": ""},
    "mel": {"n_mel_channels": "n_mels", "mel_fmin": "fmin", "mel_fmax": "fmax"},
}
