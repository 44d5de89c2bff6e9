#if KOKORO_CORE_ML_STAND_IN
    import CoreML
    import KokoroCoreML
    import SynthesisSupport

    /// Puts the tiny network of a bundle behind the stand-in. What it gives has padded rows.
    package enum StandInNetwork {
        /// What a model says of itself instead of what the manifest does.
        package typealias Changed = @Sendable (Manifest.Tensor) -> (
            type: MLMultiArrayDataType, shape: [Int]
        )

        /// Puts every function of a bundle behind its name; what was registered is forgotten.
        package static func register(_ bundle: BundleFolder, describing change: Changed? = nil) {
            StandIn.reset()
            for package in bundle.manifest.packages {
                let isSingle = package.functions.map(\.name) == ["main"]
                let functions = package.functions.map { function in
                    (isSingle ? nil : function.name, model(function, change))
                }
                StandIn.register(
                    package.file.replacingOccurrences(of: ".mlpackage", with: ""),
                    Dictionary(uniqueKeysWithValues: functions))
            }
        }

        /// A function of the tiny network.
        package static func model(
            _ function: Manifest.Function, _ change: Changed? = nil
        ) -> StandIn.Function {
            StandIn.Function(
                description: {
                    let features = { (ports: [Manifest.Tensor]) in
                        ports.map { port in
                            let (type, shape) =
                                change?(port) ?? (PaddedArray.type(port.type), port.shape)
                            return MLFeatureDescription(
                                standInName: port.name,
                                multiArray: MLMultiArrayConstraint(
                                    standInShape: shape, dataType: type))
                        }
                    }
                    return MLModelDescription(
                        standInInputs: features(function.inputs),
                        outputs: features(function.outputs))
                },
                run: { try run(function, $0) })
        }

        private static func run(
            _ function: Manifest.Function, _ given: any MLFeatureProvider
        ) throws -> [String: MLFeatureValue] {
            var inputs: [String: Tensor] = [:]
            for port in function.inputs {
                guard let array = given.featureValue(for: port.name)?.multiArrayValue,
                    array.shape.map(\.intValue) == port.shape,
                    array.dataType == PaddedArray.type(port.type)
                else { throw KokoroError.package("'\(port.name)' is not what the port takes") }
                inputs[port.name] = try Tensor(
                    bytes: PaddedArray.values(array), type: port.type, shape: port.shape)
            }
            return try TinyNetwork.run(function, inputs).mapValues { tensor in
                let bytes = try tensor.storage.bytes()
                return MLFeatureValue(
                    multiArray: try PaddedArray.make(bytes, tensor.type, tensor.shape))
            }
        }
    }

    /// A folder that a test may make.
    package struct TemporaryFolder: Sendable {
        /// The folder, which is not made yet.
        package let url = FileManager.default.temporaryDirectory.appendingPathComponent(
            "compiled-\(UUID().uuidString)")

        /// A name that no other has.
        package init() {}

        /// Removes it, if it was made.
        package func remove() { try? FileManager.default.removeItem(at: url) }

        /// Every file, by path.
        package func files() throws -> [String] {
            try FileManager.default.subpathsOfDirectory(atPath: url.path).sorted()
        }
    }
#endif
