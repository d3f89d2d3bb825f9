import torch

from dim.networks.discriminators import CodeDiscriminator, JointDiscriminator


def test_the_prior_discriminator_is_the_papers():
    discriminator = CodeDiscriminator(64)
    sizes = [tuple(p.shape) for p in discriminator.parameters()]
    assert sizes == [(1000, 64), (1000,), (200, 1000), (200,), (1, 200), (1,)]
    assert discriminator(torch.randn(5, 64)).shape == (5,)


def test_the_joint_discriminator_sees_image_and_code_of_each_row_alone():
    torch.manual_seed(0)
    discriminator = JointDiscriminator(32, 8)
    images, codes = torch.randn(4, 3, 32, 32), torch.randn(4, 8)
    before = discriminator(images, codes)
    assert before.shape == (4,)
    for side in (images, codes):
        side[1] += 1
        after = discriminator(images, codes)
        changed = ~torch.isclose(after, before, rtol=1e-4, atol=1e-6)
        assert changed.tolist() == [False, True, False, False]
        before = after
