"""Training on AudioSR's own batch: the context never sees the target, every parameter learns."""

from __future__ import annotations

import math

import pytest
import torch

from lily.errors import ConfigError
from lily.model.latent_diffusion import UNCONDITIONAL, LatentDiffusion
from lily.model.recording_profile import COUNT

ENCODER = ("global_encoder.", ".global_")


@pytest.fixture
def batch(randn):
    """Two rows of AudioSR's keys: 1.28 s of target and of input, (B, T, M)."""
    return {"fbank": randn(2, 128, 256) * 2 - 6, "lowpass_mel": randn(2, 128, 256) * 2 - 8}


@pytest.fixture
def model(make_model) -> LatentDiffusion:
    """Every row conditional and informed, so that no draw leaves the encoder out."""
    model = make_model()
    model.unconditional = model.context_dropout = 0.0
    return model.train()


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def seen_context(model, batch):
    """The loss of a batch, and the context the encoder made on the way."""
    seen = []
    hook = model.unet.global_encoder.register_forward_hook(lambda *call: seen.append(call[2]))
    loss, _ = model(batch, generator())
    hook.remove()
    return loss, seen[0]


@pytest.mark.parametrize("encoder", [True, False])
def test_a_batch_trains_with_the_encoder_on_and_off(make_model, batch, encoder):
    model = make_model(use_global_encoder=encoder).train()
    optimizer = torch.optim.AdamW(model.model.parameters(), lr=2e-2)
    losses = []
    for _ in range(5):
        loss, logs = model(batch, generator())
        assert loss.shape == ()
        assert logs["loss"] == loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]  # the same draws each time, so it must fall


def test_the_same_generator_gives_the_same_loss(model, batch):
    first, second = (model(batch, generator())[0] for _ in range(2))
    assert torch.equal(first, second)


def test_every_encoder_parameter_learns_by_the_second_step(model, batch):
    batch["context_mel"] = batch["lowpass_mel"].repeat(1, 4, 1)  # many tokens, or keys are alike
    optimizer = torch.optim.AdamW(model.model.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        model(batch, generator())[0].backward()
        optimizer.step()
    norms = {}
    for name, parameter in model.unet.named_parameters():
        if name.startswith(ENCODER[0]) or ENCODER[1] in name:
            gradient = parameter.grad
            if name.endswith("qkv.bias"):  # softmax does not see a bias of the keys
                queries, _, values = gradient.chunk(3)
                norms[name + "[q]"], norms[name + "[v]"] = queries.norm(), values.norm()
            else:
                norms[name] = gradient.norm()
    largest = max(norms.values())
    asleep = [name for name, norm in norms.items() if not norm > 1e-6 * largest]
    assert not asleep
    assert len(norms) > 40


def test_every_encoder_parameter_is_registered_and_none_is_born_in_forward(model, batch):
    before = {name: id(p) for name, p in model.named_parameters()}
    keys = set(model.state_dict())
    model(batch, generator())
    assert {name: id(p) for name, p in model.named_parameters()} == before
    assert set(model.state_dict()) == keys
    tensors = {id(t) for t in model.state_dict(keep_vars=True).values()}
    assert set(before.values()) <= tensors


def test_the_context_has_no_gradient_from_the_target(model, batch):
    for key in ("fbank", "lowpass_mel"):
        batch[key].requires_grad_()
    _, context = seen_context(model, batch)
    summary = context.tokens.sum() + context.vector.sum()
    target, low = torch.autograd.grad(
        summary, [batch["fbank"], batch["lowpass_mel"]], allow_unused=True
    )
    assert target is None
    assert low.abs().max() > 0


def test_another_target_leaves_the_context_as_it_is(model, batch, randn):
    _, context = seen_context(model, batch)
    _, again = seen_context(model, {**batch, "fbank": randn(2, 128, 256)})
    assert torch.equal(context.tokens, again.tokens)
    assert torch.equal(context.vector, again.vector)


def test_what_the_encoder_is_asked_for_it_never_sees(model, batch, randn):
    original = randn(2, 128, 256)
    asked = {**batch, "context_mel": batch["lowpass_mel"], "context_target": original}
    loss, _ = model(asked, torch.Generator().manual_seed(0), context="always")
    plain, _ = model(batch, torch.Generator().manual_seed(0), context="always")
    assert loss > plain  # it is asked for
    _, seen = seen_context(model, asked)
    _, other = seen_context(model, {**asked, "context_target": randn(2, 128, 256)})
    assert torch.equal(seen.vector, other.vector) and torch.equal(seen.tokens, other.tokens)


def test_a_profile_that_is_set_reaches_the_networks_and_not_the_encoder(model, batch, randn, wake):
    wake(model)
    profile, nothing = randn(2, COUNT), torch.full((2, COUNT), math.nan)
    asked = {**batch, "profile": profile, "known": nothing}
    losses = [model({**asked, "known": known}, generator())[0] for known in (nothing, profile)]
    assert losses[0] != losses[1]
    seen, other = (
        seen_context(model, {**asked, "known": known})[1] for known in (nothing, profile)
    )
    assert torch.equal(seen.vector, other.vector)


def test_the_profile_of_the_target_gives_the_encoder_no_gradient_from_it(model, batch, randn):
    batch["fbank"].requires_grad_()
    batch |= {"profile": randn(2, COUNT), "known": randn(2, COUNT)}
    _, context = seen_context(model, batch)
    summary = context.tokens.sum() + context.vector.sum()
    assert torch.autograd.grad(summary, batch["fbank"], allow_unused=True) == (None,)


def test_rows_that_need_their_context_keep_it(model, batch):
    model.context_dropout = 1.0
    batch["needs_context"] = torch.tensor([True, False])
    _, logs = model(batch, generator())
    assert logs["informed"] == 0.5


def test_the_context_is_of_the_whole_recording_when_it_is_given(model, batch, randn):
    whole = randn(2, 400, 256) - 7
    _, context = seen_context(model, {**batch, "context_mel": whole})
    assert context.tokens.shape[1] == 50
    _, other = seen_context(model, {**batch, "context_mel": whole, "lowpass_mel": whole[:, :128]})
    assert torch.equal(context.tokens, other.tokens)


def test_rows_that_share_a_recording_read_it_once(model, batch, randn, wake):
    wake(model)
    recordings = randn(2, 200, 256) - 7
    index = torch.tensor([1, 1])
    starts = torch.tensor([0.0, 0.64])
    shared = {**batch, "context_mel": recordings, "context_index": index, "chunk_start": starts}
    repeated = {**batch, "context_mel": recordings[index], "chunk_start": starts}
    torch.testing.assert_close(model(shared, generator())[0], model(repeated, generator())[0])
    other = {**shared, "context_index": torch.tensor([0, 1])}
    assert not torch.equal(model(shared, generator())[0], model(other, generator())[0])


def test_chunk_start_and_lengths_reach_the_networks(model, batch, randn, wake):
    wake(model)
    given = {**batch, "context_mel": randn(2, 400, 256) - 7}
    loss, _ = model(given, generator())
    later, _ = model({**given, "chunk_start": torch.tensor([1.28, 2.56])}, generator())
    shorter, _ = model({**given, "context_lengths": torch.tensor([400, 200])}, generator())
    coarser, _ = model({**given, "pooling": 8}, generator())
    assert len({loss.item(), later.item(), shorter.item(), coarser.item()}) == 4


def test_latents_encoded_beforehand_give_the_loss_of_their_log_mels(model, batch):
    with torch.no_grad():
        low = model.encode_low(batch["lowpass_mel"])
        given = generator()
        z = model.encode_target(batch["fbank"], given)
    loss, _ = model({**batch, "fbank_latent": z, "lowpass_latent": low}, given)
    torch.testing.assert_close(loss, model(batch, generator())[0])


def test_unconditional_rows_have_audiosrs_latent_and_no_context(model, batch):
    model.unconditional = 1.0
    seen = []
    model.model.register_forward_hook(lambda *call: seen.append(call[1]))
    model(batch, generator())
    [(_, low, _, conditioning)] = seen
    assert (low == UNCONDITIONAL).all()
    assert conditioning is None


def test_dropout_of_the_context_leaves_the_low_pass_latent(model, batch):
    model.context_dropout = 1.0
    seen = []
    model.model.register_forward_hook(lambda *call: seen.append(call[1]))
    _, logs = model(batch, generator())
    [(_, low, _, conditioning)] = seen
    assert (low != UNCONDITIONAL).any()
    assert conditioning is None
    assert logs["informed"] == 0


def test_the_target_is_v(make_model, batch):
    # A network that knows the answer has no loss: v = signal * noise - spread * z.
    model = make_model()
    seen = []
    model.model.register_forward_hook(lambda *call: seen.append((call[1], call[2])))
    loss, _ = model(batch, generator())
    [((x, _, steps, _), v)] = seen
    signal = model.signal_scale[steps][:, None, None, None]
    spread = model.noise_scale[steps][:, None, None, None]
    with torch.no_grad():
        z = model.encode_target(batch["fbank"], generator())
    noise = (x - signal * z) / spread
    torch.testing.assert_close(loss, ((v - (signal * noise - spread * z)) ** 2).mean())


def test_the_schedule_is_variance_preserving_and_ends_in_pure_noise(make_model):
    model = make_model()
    torch.testing.assert_close(
        model.signal_scale**2 + model.noise_scale**2, torch.ones(1000), atol=1e-6, rtol=0
    )
    assert (model.signal_scale.diff() < 0).all()
    assert model.signal_scale[-1] < 1e-7


def test_weights_survive_a_strict_round_trip(make_model, batch, wake):
    one, other = make_model(seed=1), make_model(seed=2)
    wake(one)
    one.scale_factor.fill_(0.3)
    other.load_state_dict(one.state_dict(), strict=True)
    assert torch.equal(one(batch, generator())[0], other(batch, generator())[0])


def test_a_checkpoint_without_the_encoder_misses_only_the_encoders_keys(make_model):
    plain = make_model(use_global_encoder=False).state_dict()
    model = make_model(use_global_encoder=True)
    missing, unexpected = model.load_state_dict(plain, strict=False)
    assert not unexpected
    assert missing
    assert all("global_encoder." in key or ".global_" in key for key in missing)


def test_conditioning_is_called_trained_once_it_is(make_model, wake):
    model = make_model()
    assert not model.encoder_is_trained
    wake(model)
    assert model.encoder_is_trained


def test_reading_a_context_needs_an_encoder(make_model, batch):
    model = make_model(use_global_encoder=False)
    with pytest.raises(ConfigError, match="use_global_encoder"):
        model.read_context(batch["lowpass_mel"], None, 1)


@pytest.mark.parametrize("change", [{"parameterization": "eps"}, {"beta_schedule": "linear"}])
def test_what_audiosr_was_not_trained_with_is_refused(tiny_config, change, seeded):
    with pytest.raises(ConfigError, match="should be '(v|cosine)'"):
        seeded(lambda: LatentDiffusion(**{**tiny_config["model"]["params"], **change}))


def test_an_unknown_parameter_is_refused(tiny_config, seeded):
    with pytest.raises(ConfigError, match="scale_by_sdt"):
        seeded(lambda: LatentDiffusion(**tiny_config["model"]["params"], scale_by_sdt=True))
