from app.contract.objects import Reproducibility


def test_what_an_earlier_version_told_of_a_context_can_be_read() -> None:
    earlier = (
        '{"seed":0,"examples_sha256":"00","template":{},"model":"m","model_revision":"r","versions":{},'
        '"device":"cpu","threads":2}'
    )
    found = Reproducibility.model_validate_json(earlier)
    assert (found.threads, found.hyperparameters, found.dtype) == (2, None, None)
