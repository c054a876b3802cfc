"""Encrypted averaging at a site: ``Decrypt`` in the way of the model, ``Encrypt`` of the answer.

``Encrypt`` stands behind the gates, which see what the learner made. It encrypts every array of an
answer, or the answer does not leave. NVFlare's own filters (``HEModelEncryptor`` and
``HEModelDecryptor``) encrypt array by array, let pass what a name pattern misses, check no range,
give back flat lists, and let pass as it is what they take for unencrypted; so these two take their
place, over the same keys (``HEBuilder``) and library.
"""

from __future__ import annotations

from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.filter import Filter
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable

from app_custom.aggregation.compression_filters import with_arrays
from app_custom.aggregation.model_message import (
    EXECUTOR,
    executors_of,
    filters_of_trained,
    parts_of,
)
from app_custom.nvflare_context import job_sites
from app_custom.privacy.encryption.keys import site_keys
from fedi2i.errors import ConfigError
from lightning_modules.combining.known_samples import claimed_samples
from lightning_modules.privacy.encrypted_model import (
    decrypted_model,
    encrypted_model,
    is_encrypted,
)
from lightning_modules.privacy.encrypted_sums import EncryptionError
from lightning_modules.strategies.interface import YES, Strategy


class Encrypt(Filter):
    """Encrypts a trained model, times its number of samples; raises on any other arrays.

    Numbers (metrics of a validation) and bare return codes pass.
    """

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """Return the answer with encrypted arrays.

        Raises:
            EncryptionError: what cannot be encrypted; NVFlare then drops the answer at the site.
            ConfigError: this site has no key.
        """
        if shareable.get_return_code() != ReturnCode.OK and "DXO" not in shareable:
            return shareable
        dxo = from_shareable(shareable)
        if dxo.data_kind == DataKind.METRICS:
            return shareable
        if dxo.data_kind != DataKind.WEIGHTS:
            raise EncryptionError(f"data of kind '{dxo.data_kind}' cannot be encrypted")
        samples = claimed_samples(dxo.meta.get(MetaKey.NUM_STEPS_CURRENT_ROUND))
        sealed = encrypted_model(dxo.data, samples, job_sites(fl_ctx), site_keys(fl_ctx))
        size = sum(array.nbytes for array in sealed.values())
        self.log_info(fl_ctx, f"encrypted {len(dxo.data)} arrays in {size / 1e6:.1f} MB")
        return with_arrays(shareable, DXO(DataKind.WEIGHTS, data=sealed, meta=dxo.meta))


class Decrypt(Filter):
    """Decrypts the global model and divides it by the sum of samples.

    The model of the first round is plain, and passes.
    """

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """Return the message with plain arrays in their shapes.

        Raises:
            EncryptionError: a model that cannot be decrypted; NVFlare then gives the site no task.
            ConfigError: this site has no key.
        """
        dxo = from_shareable(shareable)
        if not is_encrypted(dxo.data):
            return shareable
        arrays = decrypted_model(dxo.data, site_keys(fl_ctx))
        return with_arrays(shareable, DXO(dxo.data_kind, data=arrays, meta=dxo.meta))


def encrypts(fl_ctx: FLContext) -> bool:
    """Whether what this site trains leaves encrypted: ``Encrypt`` is the last filter in its way.

    No other executor may do a task of the job: what that one sends passes other filters.

    Args:
        fl_ctx: context of this site's run.
    """
    chain = filters_of_trained(fl_ctx)
    return bool(chain) and isinstance(chain[-1], Encrypt) and executors_of(fl_ctx) == {EXECUTOR}


def check_encryption(fl_ctx: FLContext, strategy: Strategy) -> None:
    """Refuse, before training, an encryption that could not work; do nothing without one.

    Args:
        fl_ctx: context of this site's run.
        strategy: the job's.

    Raises:
        ConfigError: the strategy must see single updates, one of the two filters is missing, or
            this site has no key.
    """
    parts = list(parts_of(fl_ctx))
    encrypt = any(isinstance(part, Encrypt) for part in parts)
    decrypt = any(isinstance(part, Decrypt) for part in parts)
    if not encrypt and not decrypt:
        return
    check_admitted(strategy)
    if not (decrypt and encrypts(fl_ctx)):
        raise ConfigError(
            "the job encrypts by half: Encrypt must be the last filter of what is trained, Decrypt "
            "one of what arrives, and no other executor may do a task; export the job again"
        )
    site_keys(fl_ctx)


def check_admitted(strategy: Strategy) -> None:
    """Refuse a strategy whose rule needs more than a sum.

    Raises:
        ConfigError: with the strategy's own reason.
    """
    admits = strategy.mechanisms.encryption
    if admits != YES:
        raise ConfigError(
            f"strategy '{strategy.label}' cannot average what is encrypted: {admits}; take FedAvg "
            "or FedProx, or leave privacy.mechanism 'encryption' out"
        )
