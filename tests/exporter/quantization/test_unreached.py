from jisu.exporter.quantization.unreached import describe_unreached


def test_an_expert_is_named_once_and_many_are_counted():
    one = describe_unreached(["m.experts.3.gate_up_proj", "m.experts.3.down_proj"])
    assert one == "The calibration text sent no token to 1 expert (m.experts.3): it is rounded without data"
    many = describe_unreached([f"m.experts.{n}.down_proj" for n in range(5)])
    assert "no token to 5 experts (m.experts.0, m.experts.1, m.experts.2 and 2 more): they are rounded" in many
